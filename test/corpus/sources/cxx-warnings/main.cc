#include <memory>
#include <string_view>
struct Base { virtual void f(int); int g; };
struct Derived : Base { void f(double); Derived() : g2(g3), g3(1) {} int g3; int g2; };
int unused_param(int a, unsigned b) { int c = b; if (a < b) return 1; else; return (int)c; }
std::string_view dangling() { std::string s = "x"; return s; }
int *null() { return 0; }
void del(Base *b) { delete b; }
int sw(int i) { switch (i) { case 0: i++; [[fallthrough]]; case 1: i++; case 2: return i; } }
