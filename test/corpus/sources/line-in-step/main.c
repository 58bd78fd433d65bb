int start = "a";
#line 1 "big.y"
int v1 = "b";
#line 2 "big.y"
#define V2( x )   ((x)   +   1)
#line 3 "big.y"
int v3 = V2("c") * "d";
#line 20 "big.y"
#if 0
int never;
#line 23
#endif
int v4 = "e";
#line 25
int v5 = V2("f");
