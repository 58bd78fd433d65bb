int parallel(int n) {
  int sum = 0;
  char c = n;
#pragma omp parallel for reduction(+ : sum)
  for (int i = 0; i < n; i++) sum += i;
  return sum + c;
}
