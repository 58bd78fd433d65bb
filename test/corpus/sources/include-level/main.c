#include "level.h"
int level0 = __INCLUDE_LEVEL__ + "";
