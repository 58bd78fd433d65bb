#def\
ine SPL\
ICED(x)  ((x) \
  + \
  "a")
int spl\
iced = SPLICED(1)\
;
#\
define ODD   3
char odd = ODD * 1000;
int tr = "unterminated \
  but spliced";
