#define HAS defined(__GNUC__)
#if HAS
int x = "y";
#endif
