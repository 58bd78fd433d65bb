#define F(a, ...)   f(a __VA_OPT__( , ) __VA_ARGS__)
int f(int, ...);
int g(char *p) { return F(p) + F(p, 1)   + F("x", "y"); }
