#define ID(x)   x
int f(void) {
  return ID(1 +
#ifdef NOPE
            2 +
#else
            "x" *
#endif
            3);
}
