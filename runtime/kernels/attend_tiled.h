// The tiled way of attention: int8 numbers and the same products as everywhere else, for many tokens at once.
#pragma once

#include "attend.h"

namespace moedge {

// As `attend`, with queries and probabilities rounded.
bool attend_tiled(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, KeySource& source,
                  float* out);

}  // namespace moedge
