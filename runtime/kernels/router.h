// A router of a layer: how likely each expert is for a token, and how much it would count.
#pragma once

#include "work.h"

namespace moedge {

enum class Scoring { none, softmax, sigmoid, sparsemixer };  // none: logits alone are given

struct Router {
  int64_t experts, hidden, chosen;  // chosen: experts that a token goes to
  Scoring scoring;
  bool normalize;        // weights of the chosen add up to 1, but for these:
  float eps, least_sum;  // added to their sum; which is at least that
  float softcap;         // what tanh keeps logits below; 0: nothing does
  float jitter;          // of sparsemixer: how much less likely an expert may be that counts beside another
  // Experts are in `groups` of one size, of which the best ones are open: those whose `group_best` best experts have
  // the largest sums.
  int64_t groups, open_groups, group_best;
  const float* weight;      // [experts, hidden]
  const float* bias;        // [experts], or null
  const float* correction;  // [experts] added to what chooses, and not to what counts; or null
};

// The `most` largest of scores [count], of equal ones the first, what is no number last: their places, and themselves,
// in their order.
void rank(const float* scores, int64_t count, int64_t most, int32_t* places, float* values);

// x [tokens, hidden]; select and weigh [tokens, experts], weigh only where there is a scoring. Sums are made in an
// order that does not depend on how many tokens there are. False if there is not enough memory.
bool run_router(const Kernels& kernels, const Threads& threads, const Router& router, const float* x, int64_t tokens,
                float* select, float* weigh);

}  // namespace moedge
