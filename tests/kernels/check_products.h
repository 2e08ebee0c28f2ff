// Routers, and products with what becomes of them, for check.cpp.
#pragma once

#include "reference.h"

namespace check {

void check_router(Random& random);
void check_parts(Random& random);
void check_norm(Random& random);

}  // namespace check
