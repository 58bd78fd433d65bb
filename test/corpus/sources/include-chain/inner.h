static int inner_value(int v) {
  int unused_inner;
  return v
}
