#define HEADER "computed.h"
#include HEADER
int x = COMPUTED;
