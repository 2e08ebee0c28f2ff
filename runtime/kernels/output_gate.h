// What attention gives, times a gate.
#pragma once

#include "work.h"

namespace moedge {

struct OutputGate {
  int64_t width, gates;  // a token's numbers; gates, each of which is for width / gates of them in a row
  bool softplus;         // else a sigmoid
};

// out [tokens, width] = x * act(gate), gate [tokens, gates].
void open_gates(const Kernels& kernels, const Threads& threads, const OutputGate& how, const float* x,
                const float* gate, int64_t tokens, float* out);

}  // namespace moedge
