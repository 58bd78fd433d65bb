#define S   "a \
b"
#define T(x)   "\"" /* " */ x '"' \
  '\''
int a = S;
int b = T(1);
