int before = "x";
#include "last.h"
