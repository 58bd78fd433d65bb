#define STR(x)   #x
#define XSTR( x )   STR( x )
#define PASTE(a,b)   a##b
#define SPACE(a)   #   a   "b"   'c'
#define VAR(fmt, ...)   check(fmt,   ## __VA_ARGS__)
#define NAMED(args...)   check(args)
int check(const char *f, ...) __attribute__((format(printf, 1, 2)));
int strings(int PASTE(na, me)) {
  const char *a = XSTR( a  +   b );
  const char *b = SPACE(  c   d );
  int lengths[sizeof(SPACE( x   y )) - 1] = { a, b };
  return VAR("x") + NAMED("y") + lengths[0] + name + PASTE(un, known);
}
