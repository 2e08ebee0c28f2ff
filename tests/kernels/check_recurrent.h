// Mixers over a state for check.cpp.
#pragma once

#include "reference.h"

namespace check {

void check_recurrent(Random& random);

}  // namespace check
