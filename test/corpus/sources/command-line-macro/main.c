int given(char *p) {
  int a = VALUE;
  return CALL(p) + a;
}
