#define WHERE 50 "macro.y"
#line WHERE
int somewhere = "a";
#define  SPACED( x )   ((x)   *   "q")
int spaced = SPACED(1);
