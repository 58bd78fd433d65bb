#define LOCAL 2.5
int local_unused(void) { int x; }
