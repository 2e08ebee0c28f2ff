// A gated short convolution of a layer: from its joined projection to what its output projection reads.
#pragma once

#include "attention.h"

namespace moedge {

struct Convolution {
  int64_t hidden, kernel;
  const float* taps;  // [kernel, hidden]; the last one is the token's own
  const float* bias;  // [hidden], or null
};

// rows [slots, capacity, hidden]: what is convolved, of all tokens so far. Of those before the new ones only the last
// kernel - 1 are read, and before the first token there are zeros.
struct ConvolutionCache {
  float* rows;
  int64_t capacity;
};

// joined [tokens, 3 * hidden]: b, c, x of each token; out [tokens, hidden] = c * conv(b * x). The segments are checked.
void run_convolution(const Kernels& kernels, const Threads& threads, const Convolution& convolution,
                     const float* joined, const Segment* segments, int64_t count, const ConvolutionCache& cache,
                     float* out);

}  // namespace moedge
