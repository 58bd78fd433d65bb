#include <stdlib.h>
#include <string.h>
#define CLEAR(p)   memset(p,   0,   sizeof(p))
int *leak(int n) {
  int *p = malloc(4);
  p[3] = n;
  CLEAR(p);
  free(p);
  return p;
}
static inline int maybe(int a) { int r; if (a > 3) r = 1; return r; }
int uninitialised(int a) { int arr[4]; arr[5] = a; return maybe(a) + arr[5]; }
