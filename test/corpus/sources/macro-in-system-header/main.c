#include <assert.h>
#include <stdint.h>
#include <sys/select.h>

int checks(int i, const char *s) {
  assert(i = 3);
  fd_set set;
  FD_ZERO(&set);
  FD_SET("x", &set);
  uint8_t small = UINT32_C(4096) + i;
  return small + INT64_C(1) * s;
}
