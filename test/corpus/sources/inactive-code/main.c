int first = "a";
#if 0
int never = "b";
#else
int second = "c";
#endif
#ifdef A
a a a
#elif defined B
b b b
#else
int third(void) {
  return 1 +
#ifdef C
         2 +
#endif
         "s" * 3;
}
#endif
int call(int a, int b);
int gap = 3;
#if 0


















#endif
int after_gap = "d";
int spanning(char *s) {
  return call(s,
#ifdef WIDE
              4
#else
              "five"
#endif
  ) + undeclared_thing(gap,
#if WIDE
                       1,
#endif
                       2);
}
