#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
void quiet(int a) {}
#pragma   GCC   diagnostic   pop
void loud(int a) {}
#pragma interface
#pragma STDC CX_LIMITED_RANGE ON
#define PUSH_POP(x)   _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"") x _Pragma("GCC diagnostic pop")
int shadow(int a) { PUSH_POP({ int a = 1; (void) a; }) { int a = 2; return a; } }
