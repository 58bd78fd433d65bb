#include <cstddef>
#include "own.hpp"
int main() {
  std::string s;
  std::cout << own() << s;
  std::unique_ptr<int> p;
  return 0;
}
