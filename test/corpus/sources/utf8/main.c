#define GRÜSSE(имя)    ("ä" "🎉" + имя)
int größe(int naïve) {
  const char *t = "日本語🎉é"; char c = naïve * 1000; return t;
  /* ünï */ return GRÜSSE("x") + größe(c) + unbekännt;
}
