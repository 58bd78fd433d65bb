#pragma GCC dependency "dep.h" stale
int x = "s";
