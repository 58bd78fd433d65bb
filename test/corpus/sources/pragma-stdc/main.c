#pragma STDC FP_CONTRACT ON
#pragma GCC optimize ("O0")
#pragma GCC   visibility   push( hidden )
int hidden(float f) { return f * 2.5; }
#pragma GCC visibility pop
#pragma GCC push_options
#pragma GCC target ("avx2")
int wide(float f) { return f * 2.5; }
#pragma GCC pop_options
#pragma GCC unroll 4
