const char *a = R"(
#define INSIDE 1
# 12 "file.c" 1
// )" not yet
)"; int b = "x";
const char *c = u8R"xyz(#include "nothing.h"
)")xyz"; int d = INSIDE;
int e = 1'000'000; char f = 'x'; int g = 0x1'F"y";
auto h = LR"(a\
b)"; int i = "z";
