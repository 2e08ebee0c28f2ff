// Linear attention by the gated delta rule, with its norm and gate.
#pragma once

#include "states.h"
#include "work.h"

namespace moedge {

struct DeltaNet {
  int64_t key_heads, value_heads, key_dim, value_dim;
  float scale, eps;
  bool per_channel;  // each row of a state is forgotten by itself
  bool silu;         // the gate's activation; else sigmoid
  Forgetting forgetting;
  const float* rates;  // [value_heads]
  const float* shift;  // added to decays [decays()]
  const float* norm;   // [value_dim]

  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t columns() const { return 2 * keys() + values(); }
  int64_t decays() const { return value_heads * (per_channel ? key_dim : 1); }
  int64_t state() const { return value_heads * key_dim * value_dim; }
};

// What a run's tokens are given.
struct DeltaTokens {
  const float* mixed;  // [tokens, columns()]: heads of q, of k, of v
  const float* gate;   // [tokens, values()]
  const float* beta;   // [tokens, value_heads]
  const float* decay;  // [tokens, decays()]
};

// memory [rows, state()], out [tokens, values()]. The states are checked. False if there is not enough memory.
bool run_delta_net(const Kernels& kernels, const Threads& threads, const DeltaNet& net, const DeltaTokens& given,
                   const States& states, float* memory, float* out);

}  // namespace moedge
