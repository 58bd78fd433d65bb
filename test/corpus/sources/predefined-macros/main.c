#include <float.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#define MY_MAX   INT_MAX
#define MY_SIZE  __SIZEOF_INT__
int limits(signed char small, unsigned u, float f) {
  small = INT_MAX;
  small = MY_MAX;
  small = CHAR_MAX + 1;
  small = __INT_MAX__;
  f = DBL_MAX;
  f = INT_MAX;
  if (u > UINT_MAX) return 1;
  if (small == INT_MAX) return 2;
  if (u < 0 || small > SCHAR_MAX) return 3;
  int over = INT_MAX + 1;
  int over2 = __INT_MAX__ + MY_MAX;
  uint8_t eight = SIZE_MAX;
  uint8_t eight2 = MY_SIZE * 1000;
  char buf[MY_SIZE - 5];
  ptrdiff_t d = PTRDIFF_MAX * 2;
  int shift = 1 << MY_SIZE * 10;
  __INT32_TYPE__ t = "x";
  return over + over2 + eight + eight2 + d + shift + INT64_MAX + (UINT64_MAX == u) + 1 / (MY_SIZE - 4) + *buf;
}
