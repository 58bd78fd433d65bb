#define SWAP(type, a, b)      \
  do {                        \
    type   swap_tmp = (a);    \
    (a) = (b);                \
    (b) = swap_tmp;           \
  } while (0)

#define LONG_LIST(x) \
  x(1) \
  x(2) \
  x(3) \
  x(4) \
  x(5) \
  x(6) \
  x(7) \
  x(8) \
  x(9) \
  x(10) \
  x(11)

#define ADD(n) total += n + "s";

int sums(unsigned u, int i) {
  int total = 0;
  SWAP(int, u, i);
  if (u < i) total = 2;
  LONG_LIST(ADD)
  return total;
}
