// The state space of Mamba-2, with its gate and norm.
#pragma once

#include "states.h"
#include "work.h"

namespace moedge {

struct Mamba2 {
  int64_t heads, head_dim, groups, state;  // state: rows of a head's
  int64_t norm_groups;
  float eps;
  TimeSteps steps;
  const float *rates, *shift, *skip;  // [heads]: A; what is added to time steps; D
  const float* norm;                  // [inner()]

  int64_t inner() const { return heads * head_dim; }
  int64_t columns() const { return inner() + 2 * groups * state; }
};

// What a run's tokens are given.
struct MambaTokens {
  const float* mixed;  // [tokens, columns()]: heads of x, groups of B, of C
  const float* gate;   // [tokens, inner()]
  const float* dt;     // [tokens, heads]
};

// memory [rows, heads, state, head_dim], out [tokens, inner()]. The states are checked. False if there is not enough
// memory.
bool run_mamba2(const Kernels& kernels, const Threads& threads, const Mamba2& mamba, const MambaTokens& given,
                const States& states, float* memory, float* out);

}  // namespace moedge
