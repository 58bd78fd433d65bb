#define UNUSED 1
int x = "y";
