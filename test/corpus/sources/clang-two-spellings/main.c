#include "once.h"
#include "./once.h"
int once = ONCE;
