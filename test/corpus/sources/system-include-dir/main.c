#include <vendor.h>
int v(char *p) { return VENDOR(p) + vendor_fn(p); }
