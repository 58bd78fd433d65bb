int a = b;
int c = d;
int e = f;
int g = h;
