#include "../inc/./local.h"
#include <api.h>
#include "generated.h"
int tree(void) { assert_that("x" == 3); return API   + LOCAL + GENERATED; }
