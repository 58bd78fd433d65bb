#pragma GCC poison   gets strcpy
