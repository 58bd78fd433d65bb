#include <algorithm>
#include <list>
#include <map>
int sorted() {
  std::list<int> l{3, 1, 2};
  std::sort(l.begin(), l.end());
  std::map<int, std::list<int>> m = {{1, {2}}, {"x", 4}};
  return m.size();
}
