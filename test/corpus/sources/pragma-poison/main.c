#include "poison.h"
int danger(char *s) { return gets(s) != 0 || strcpy(s, "x"); }
