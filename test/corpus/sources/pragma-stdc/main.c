#pragma STDC FP_CONTRACT ON
#pragma GCC   visibility   push( hidden )
int hidden(float f) { return f * 2.5; }
#pragma GCC visibility pop
int wide(float f) { return f * 2.5; }
#pragma GCC unroll 4
