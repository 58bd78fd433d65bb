#line 2 "gram.y"

#include <stdio.h>
#define YY( a )   ((a)  *  "y")
static int helper(int v) { return YY(v); }

#line 12 "main.c"
#ifdef YYDEBUG
int debug;
#endif
#define YYSIZE( n )   ((n)  +  1)
#line 9 "gram.y"
typedef union { int i; char *s; } value;
#line 18 "main.c"
int yyparse(value *v) {
  switch (v->i) {
    case 2:
#line 20 "gram.y"
    { v = YYSIZE("a"); helper(v->s); }
#line 24 "main.c"
      break;
#line 3000 "gram.y"
    case 4: return v;
#line 28 "main.c"
  }
  return YYSIZE("b") * "c";
}
