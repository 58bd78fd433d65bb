#include "quiet.h"
int q(char *p) { return quiet_fn(p) + QUIET(p); }
