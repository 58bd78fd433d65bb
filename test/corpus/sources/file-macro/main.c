#include <assert.h>
#include "sub/where.h"
const char *here = __FILE__; int line = __LINE__;
const char *name(void) { WHERE; assert(here); return __func__; }
int x = "y";
