#include <assert.h>
#include "abs.h"
const char *file = __FILE__;
int abs_fn(char *p) { assert(p); return ABS(p) + p; }
