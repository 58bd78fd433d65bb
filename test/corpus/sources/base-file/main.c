#include "base.h"
int x = "y";
