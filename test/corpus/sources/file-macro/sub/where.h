static const char *there = __FILE__; static int there_line = __LINE__;
#define WHERE   (void) (__FILE__   "x", __LINE__)
