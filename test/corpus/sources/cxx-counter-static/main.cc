#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define UNIQUE   CAT(unique_, __COUNTER__)
static int UNIQUE = 1;
static int UNIQUE = "x";
namespace { struct Anonymous { int UNIQUE; } anonymous; }
inline int fn() { static int once = 3.5f; auto l = [] { return __PRETTY_FUNCTION__; }; l(); return once; }
int use() { return fn(); }
