// A residual sum and its norm.
#pragma once

#include "work.h"

namespace moedge {

struct AddNorm {
  int64_t hidden;
  float eps;
  const float* weight;  // [hidden]
};

// x and delta [tokens, hidden]; sum = x + delta, normed = sum / sqrt(mean(sum²) + eps) * weight. Numbers are added in
// an order that does not depend on how many tokens there are.
void add_and_norm(const Kernels& kernels, const Threads& threads, const AddNorm& norm, const float* x,
                  const float* delta, int64_t tokens, float* normed, float* sum);

}  // namespace moedge
