struct row { int a; char *b; };
struct row rows[2] = {
#ifdef EXTRA
  { 0, "extra" },
#endif
  { "one", 1 },
  { 2, "two", 3 },
#if 1
  { .c = 4 },
#endif
  { 5, "five" },
};
