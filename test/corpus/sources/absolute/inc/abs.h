#define ABS( x )   ((x)  *  2)
static int abs_unused;
static const char *h = __FILE__;
