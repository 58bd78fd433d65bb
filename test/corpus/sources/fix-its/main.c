#include <stdio.h>
struct point { int width; int height; };
int fix(struct point *p, struct point q) {
  int colour = p.width + q->height + p->widht;
  if (colour = 3) prntf("x");
  return color
}
enum shade { LIGHT, DARK }
int misspelt(void) { return LIGTH; }
