#include <stdio.h>
struct s { int a; int b; } s = { 1 };
int f(register int a, int b) { int a2 = a; { int b = a2; } if (a) if (b) return 1; else return 2; return a == 1.0f; }
int old_style(a) int a; { return a; }
void shadow(int f) { for (unsigned i = f; i >= 0; i--) ; }
