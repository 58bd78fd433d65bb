int bad_asm(int x) {
  __asm__ volatile ("frobnicate %0, %1\n\tnonsense\n" : "=r"(x) : "r"(x));
  return x;
}
