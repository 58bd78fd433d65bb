int before = "a";
#line 100 "grammar.y"
int in_grammar = "b";
#define IN_GRAMMAR( x )   ((x)   *   2)
int used = IN_GRAMMAR("y");
#line 7
int seventh = "c";
# 40 "elsewhere/none.y"
int nowhere = "d";
#line 12 "main.c"
int back(void) { return IN_GRAMMAR("z"); }
#define LATE( x )   ((x)   -   "s")
int late = LATE(2.5);
