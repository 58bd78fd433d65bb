#include <sys/types.h>
struct empty { };
int zero[0];
void *arith(void *p) { return p + 1; };
int ternary(int a) { return a ?: 2; }
enum e { A, B, };
typeof(int) t; __extension__ typeof(int) u;
#define GNU(x)   ({ x;   x; })
int g(int a) { return GNU(a); }
