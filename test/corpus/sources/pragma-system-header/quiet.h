static int before(int a) { char c = a; return c; }
#pragma GCC system_header
#define QUIET(x)   ((int) (x))
static int quiet_fn(int a) { char c = a; int unused; return c; }
