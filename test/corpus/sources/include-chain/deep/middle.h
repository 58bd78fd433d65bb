/* a comment

*/
#include "../inner.h"
