const char *raw = R"x(
#define INSIDE 1
# 10 "inside.c"
)" still inside
)x"; int outside = INSIDE;
