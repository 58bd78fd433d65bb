int taken(char *p) { return TAKEN(p) + p; }
