#warning this is said by the first step
int x = "s";
