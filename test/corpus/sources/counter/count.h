int h0 = __COUNTER__;
#define NEXT   __COUNTER__ + ""
