// An instruction set against the scalar one on weights made up for it, bit for bit.
#pragma once

#include "kernels.h"

namespace moedge {

// One tile row in this format with so many columns, times `together` rows: null, or which step differs.
const char* check_case(const Kernels& kernels, Format format, int64_t columns, int together, uint32_t seed);

// Some tokens of each mixer over a state: null, or which one differs.
const char* check_recurrent(const Kernels& kernels, uint32_t seed);

// All formats at small sizes, a few milliseconds: null, or which step differs.
const char* check_kernels(const Kernels& kernels);

}  // namespace moedge
