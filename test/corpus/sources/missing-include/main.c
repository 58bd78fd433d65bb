#include "first.h"
#include "second.h"

#ifdef NOT_DEFINED
int never;
#endif
void *grab(void) {
  printf("%d\n", 3);
  return malloc(FIRST + SECOND);
}
