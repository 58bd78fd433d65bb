#if __COUNTER__ == 0
int zero = __COUNTER__;
#endif
int one = "x";
