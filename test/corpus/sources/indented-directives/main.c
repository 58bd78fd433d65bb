#ifndef NOTHING
  # include "inner.h"
	#	define	VALUE	"text"
    #pragma GCC diagnostic ignored "-Wunused-variable"
  int value = VALUE;
# endif
  #undef   VALUE
int unknown = VALUE;
