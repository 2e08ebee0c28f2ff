// A layer's routed experts: who goes where, the first product, its activation, the second product, the weighted sum.
#pragma once

#include "work.h"

namespace moedge {

struct Experts {
  int64_t count, chosen;  // experts, and how many of them a token goes to
  int64_t hidden, inner;  // sizes of a token and within an expert
  Activation activation;
  float routing_scale;
  Tiles first, second;  // of one expert; gate and up alternate by tile rows in the first
  const uint8_t* first_weights;
  const uint8_t* second_weights;
  const float* first_bias;   // [count, 2 inner], gate and up alternating, or null
  const float* second_bias;  // [count, hidden], or null

  Experts() = default;
  int64_t matrices() const { return activation.gated() ? 2 : 1; }
  int64_t inner_tiles() const { return (inner + ROWS - 1) / ROWS; }
  int64_t first_bytes() const { return first.bytes * inner_tiles() * matrices(); }
  int64_t second_bytes() const { return second.bytes * second.count; }
  const uint8_t* first_of(int64_t expert) const { return first_weights + expert * first_bytes(); }
  const uint8_t* second_of(int64_t expert) const { return second_weights + expert * second_bytes(); }
};

// Who is told of each expert that is needed, before any of it is read, and how many tokens go to it.
struct Chosen {
  void (*tell)(void* listener, int64_t expert, int64_t tokens);
  void* listener;
};

// x [tokens, hidden], select and weigh [tokens, count], out [tokens, hidden]; weigh null: softmax over the chosen.
// False if there is not enough memory.
bool run_experts(const Kernels& kernels, const Threads& threads, const Experts& experts, const float* x,
                 const float* select, const float* weigh, int64_t tokens, const Chosen& told, float* out);

}  // namespace moedge
