#include <stdio.h>
void fill(int i) {
  char small[4];
  sprintf(small, "%d items", i);
  snprintf(small, sizeof small, "number %d", 123456);
}
