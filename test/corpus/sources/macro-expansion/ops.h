#ifndef OPS_H
#define OPS_H
#define	NARROW(x)	((short)(x))
#define APPLY( a , b )   ((a)   *   (b))
#endif
