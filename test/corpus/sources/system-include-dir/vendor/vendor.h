#define VENDOR(x)   ((int) (x)   +   "y")
static inline int vendor_fn(int a) { char c = a; int unused; return c; }
