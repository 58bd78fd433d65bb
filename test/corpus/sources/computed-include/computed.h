#define COMPUTED   "abc"
