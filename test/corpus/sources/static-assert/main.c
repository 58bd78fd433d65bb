_Static_assert(sizeof(int) == 5, "int is\t\"five\" bytes \xc3\xa9 é");
#define CHECK(x)   _Static_assert(x,   #x)
CHECK( 1 ==   2 );
struct flexible { int a[]; } f = { { 1 } };
