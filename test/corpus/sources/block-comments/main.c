/* # 12 "not-a-marker.c" 1
#define NOT_A_DEFINE 1
# 3 "no.h" 2
*/ int a = "x"; /*
#include "nothing.h" */ int b = "y";
// a line comment that goes on \
#define STILL_A_COMMENT 1
int c = STILL_A_COMMENT;
const char *s = "a string that goes on \
#define NEITHER 1";
char q = '"'; char r = '\''; /* " */ int d = "'";
