int level1 = __INCLUDE_LEVEL__;
