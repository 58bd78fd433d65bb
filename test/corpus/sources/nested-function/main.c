int outer(int a) {
  int inner(int b) { char c = b; return a + c; }
  return ({ int t = inner(a); t + "x"; });
}
