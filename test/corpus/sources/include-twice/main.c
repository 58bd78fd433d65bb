#define ITEM(name) int name##_count;
#include "items.def"
#undef ITEM
#define ITEM(name) char name##_small = 4096;
#include "items.def"
#undef ITEM
