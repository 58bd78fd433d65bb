#ifdef __GNUC__
#define HERE 1
#endif
int measured(const char *s) { return strlen(s) + HERE; }
bool truth(void) { return true; }
