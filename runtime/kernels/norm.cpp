// Each job takes some tokens; a few are done before other threads have woken.

#include "norm.h"

namespace moedge {
namespace {

constexpr int64_t JOB_TOKENS = 16;

}  // namespace

void add_and_norm(const Kernels& kernels, const Threads& threads, const AddNorm& norm, const float* x,
                  const float* delta, int64_t tokens, float* normed, float* sum) {
  const int64_t n = norm.hidden;
  threads.each((tokens + JOB_TOKENS - 1) / JOB_TOKENS, [&](size_t job) {
    const int64_t first = (int64_t)job * JOB_TOKENS, end = first + JOB_TOKENS < tokens ? first + JOB_TOKENS : tokens;
    for (int64_t t = first; t < end; t++) {
      const float *a = x + t * n, *b = delta + t * n;
      float* __restrict total = sum + t * n, * __restrict out = normed + t * n;
      for (int64_t c = 0; c < n; c++) out[c] = total[c] = a[c] + b[c];
      kernels.attention.normalize(out, norm.weight, n, norm.eps);
    }
  });
}

}  // namespace moedge
