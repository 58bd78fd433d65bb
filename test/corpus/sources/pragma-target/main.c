#pragma GCC push_options
#pragma GCC optimize ("O3")
#pragma GCC target ("avx2")
#if defined __AVX2__ && defined __OPTIMIZE__
int wide(float f) { return f * 2.5; }
#endif
#pragma GCC pop_options
int narrow = 1.5;
