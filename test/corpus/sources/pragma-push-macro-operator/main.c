#define LIMIT 10
_Pragma("push_macro(\"LIMIT\")")
#undef LIMIT
_Pragma("pop_macro(\"LIMIT\")")
#ifdef LIMIT
int ten = LIMIT;
#endif
int unused(int x) {}
