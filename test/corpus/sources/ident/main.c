#ident   "version 1"
#ident "two"
int x(int unused) { return "a"; }
