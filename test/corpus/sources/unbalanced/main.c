int f(void) {
  if (1) {
    return 0;
#include "brace.h"
int g(void) { return "x"; }
