#define SAME   1
#define SAME 2
int x = SAME + "a";
