#define LIMIT   10
#pragma push_macro("LIMIT")
#undef LIMIT
#define LIMIT   "eleven"
int eleven = LIMIT;
#pragma pop_macro("LIMIT")
int ten = LIMIT;
char narrow = LIMIT * 100;
