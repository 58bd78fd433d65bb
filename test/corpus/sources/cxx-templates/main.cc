#include <string>
#include <vector>
#include "box.hpp"

struct NoCompare {};

int main() {
  std::vector<NoCompare> v;
  Box<std::string> b{3};
  b.add(v);
  auto n = b.get<int>() + "x";
  return v < 3;
}
