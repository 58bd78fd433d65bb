#line 3 "/usr/include/string.h"
int in_system = "a";
#line 3 "/nonexistent/dir/file.c"
int in_nothing = "b";
#line 2 "/hpcc/project/other.c"
int in_other = "c";
