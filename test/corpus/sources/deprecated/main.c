#include "old.h"
int use(void) { return old_function() + OLD_MACRO; }
