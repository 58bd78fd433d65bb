#include "shared.h"
#include <local.h>
int order(void) { return SHARED + LOCAL; }
