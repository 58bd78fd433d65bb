#define LOCAL   2.5
int local_fn(int unused) { }
