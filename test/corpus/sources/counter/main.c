#include "count.h"
#define PASTE_(a,b) a##b
#define PASTE(a,b) PASTE_(a,b)
int PASTE(c, __COUNTER__) = "x";
int PASTE(c, __COUNTER__) = NEXT;
char last[__COUNTER__] = { 1, 2, 3, 4, 5, 6 };
