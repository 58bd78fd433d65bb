char c = 'ab;
int y = 'x';
char *s = "open;
int z = "w";
