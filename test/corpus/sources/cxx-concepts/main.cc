#include <concepts>
#include <ranges>
#include <vector>
template <typename T> concept Small = sizeof(T)   <=   2 && requires(T t) { t.small(); };
#define CHECKED   Small
template <CHECKED T> void take(T) {}
void use() {
  take(3);
  std::vector<int> v;
  auto r = v | std::views::filter([](std::string s) { return s.empty(); });
}
