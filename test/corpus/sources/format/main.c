#include <stdio.h>
#define SAY(x)   printf("value   %s   and %d\n", x)
void say(long l) {
  printf("%d and %s\n", l, l);
  SAY(l);
  printf("a" "b %d" "c\n", "d");
}
