#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void calls(char *to, const char *from, FILE *file) {
  memcpy(from, to, 4);
  fread(to, 1, 16, file);
  strcpy(to, 7);
  qsort(to, 1, 1, strcmp);
  system("true");
}
