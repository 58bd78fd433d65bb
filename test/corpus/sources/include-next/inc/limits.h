#include_next <limits.h>
#define WRAPPED   INT_MAX
static int wrapped_unused;
