#include "outer.h"
int main_uses(void) { return inner_value("x"); }
