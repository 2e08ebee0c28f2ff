// A convolution of each channel by itself with SiLU behind it, of whose inputs the last ones are a timeline's state.
#pragma once

#include "states.h"
#include "work.h"

namespace moedge {

struct CausalConvolution {
  int64_t channels, kernel;
  const float* taps;  // [kernel, channels], the last one the token's own
  const float* bias;  // [channels], or null
};

// x and out [tokens, channels]; memory [rows, kernel - 1, channels], the oldest input first. The states are checked.
void run_causal_convolution(const Kernels& kernels, const Threads& threads, const CausalConvolution& convolution,
                            const float* x, const States& states, float* memory, float* out);

}  // namespace moedge
