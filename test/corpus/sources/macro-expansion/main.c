#include "ops.h"

#define   WIDEN( x )   ((char) NARROW( x ))   /* spaced on purpose */

int widened(long value) {
  char small = WIDEN(value) + value;
  return APPLY(small, "text") + small;
}
