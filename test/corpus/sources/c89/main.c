int mixed(void) {
  int a;
  a = 1;
  int b = a; // c++ comment
  for (int i = 0; i < b; i++) ;
  return R"(x)" "\e";
}
long long big = 12345678901LL;
