const char *stamped = __TIMESTAMP__;
int x = "y";
