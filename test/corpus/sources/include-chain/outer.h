#include "deep/middle.h"
