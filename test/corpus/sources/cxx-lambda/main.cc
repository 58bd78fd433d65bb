#define CALL(f, ...)   (f)(__VA_ARGS__)
int lambda(int a) {
  auto f = [=](auto x) {
    return CALL([](int y) { return y + "s"; },
                x) + a;
  };
  return f("q") + f(2);
}
constexpr int div0(int a) { return 1 / a; }
static_assert(div0(1) == 2, "no");
constexpr int bad = div0(0);
