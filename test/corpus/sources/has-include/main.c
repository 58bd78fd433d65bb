#if __has_include(<stdio.h>) && !__has_include("nothing.h") && defined(__has_attribute)
#if __has_attribute(unused)
int has = "x";
#endif
#endif
