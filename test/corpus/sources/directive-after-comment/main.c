/* c */ #define A 1
/* multi
 line */ #define B 2
/* multi
 line */ #if 0
int never;
#endif
/* x
*/ #include "dc.h"
int x /* c */ = A; /* open
*/ # /* y */ define C 3
int y = C + B;
