// y = x Wᵀ over tile rows, and rows of such a matrix as they stand in it.
#pragma once

#include "work.h"

namespace moedge {

// x [m, columns], y [m, rows]. An activation is so many int8 numbers (`planes`), each of what those before it leave:
// three of them are as good as fp32. False if there is not enough memory.
bool multiply_matrix(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const uint8_t* weights,
                     const float* x, int64_t m, int planes, float* y);

// The rows `ids` [n] of the matrix, out [n, columns]: null, or what was wrong.
const char* gather_rows(const Tiles& tiles, const uint8_t* weights, const int64_t* ids, int64_t n, float* out);

}  // namespace moedge
