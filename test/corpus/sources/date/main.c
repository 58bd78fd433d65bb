const char *built = __DATE__ " " __TIME__;
int x = "y";
