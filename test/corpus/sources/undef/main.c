#include <limits.h>
#  undef   INT_MAX
int m = INT_MAX;
#undef NOT_THERE
#define   EMPTY
#define EMPTY_ARGS(   )
EMPTY int n = EMPTY_ARGS() "x";
