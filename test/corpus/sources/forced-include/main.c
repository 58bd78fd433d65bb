int forced(void) { return FORCED("q"); }
