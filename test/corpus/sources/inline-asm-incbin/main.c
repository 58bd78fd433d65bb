__asm__(".incbin \"main.c\"\n");
int x(int u) { }
