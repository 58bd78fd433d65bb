# pragma   acme   turbo( on )  /* unknown */
int x;
#pragma GCC   poison   forbidden
#pragma weak   y = undefined_target
#pragma pack( push ,  1 )
struct packed { char c; int i; };
#pragma pack(pop)
#pragma pack(3)
int p = sizeof(struct packed) == 5 ? 1 : "no";
