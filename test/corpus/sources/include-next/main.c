#include <limits.h>
int x = WRAPPED + "a";
