#define NOT_EQ   not_eq
struct A {};
bool alt(int a, int b, A c) { return a and b NOT_EQ 3 or not c; }
bool space(A a, A b) { return a <=> b; }
int compl_(int a) { return compl a bitor "x"; }
