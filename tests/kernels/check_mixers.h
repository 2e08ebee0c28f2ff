// Latent attention and short convolutions for check.cpp.
#pragma once

#include "reference.h"

namespace check {

void check_latent(Random& random);
void check_convolution(Random& random);

}  // namespace check
