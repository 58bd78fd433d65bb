#define A(x) /* first */ ((x) /* second */ + 1) // trailing
#define B(x) ((x) /* over
   several
   lines */ * "no")
#/* odd */define /* name */ C /* value */ (unsigned) /**/ -1
  #   define D \
      (C +    \
       1.5f)

int use(int i) {
  if (i < C) return A(i) + D;
  return B(i);
}
