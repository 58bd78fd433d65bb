#include <stdlib.h>
#include <ctype.h>
#include <math.h>
int s(char c, int *p) { return isupper(c) + abs(2.5) + abs(p) + isnan("x") + HUGE_VAL; }
