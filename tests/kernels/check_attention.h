// Attention for check.cpp.
#pragma once

#include "reference.h"

namespace check {

void check_attention(Random& random);

// Of numbers that were chosen, and of kernels with a fault, which the self check must find.
void check_chosen_attention();

}  // namespace check
