#define TWO(a, b)   ((a)   +   (b))
#define ID(x)   x
int f(char *p) {
  return TWO(p *
               2,
             ID(
               "x"   *
               3
             ));
}
int g = TWO(1
#define IN_ARGS 3
  , IN_ARGS "z");
