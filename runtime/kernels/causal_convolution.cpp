// Each job takes some channels through all tokens.

#include "causal_convolution.h"

namespace moedge {
namespace {

constexpr int64_t JOB_CHANNELS = 512;
constexpr int64_t SERIAL_WORK = 32 << 10;  // numbers; fewer are done before other threads have woken

}  // namespace

void run_causal_convolution(const Kernels& kernels, const Threads& threads, const CausalConvolution& c, const float* x,
                            const States& states, float* memory, float* out) {
  const int64_t kept = c.kernel - 1, stride = c.channels;
  auto work = [&](size_t job) {
    const int64_t first = (int64_t)job * JOB_CHANNELS;
    const int64_t n = first + JOB_CHANNELS < stride ? JOB_CHANNELS : stride - first;
    const float* own = x + first;
    float* to = out + first;
    for (int64_t i = 0; i < states.count; i++) {
      const int64_t count = states.segments[i].count;
      const float* before = memory + states.rows[i].read * kept * stride + first;
      for (int64_t t = 0; t < count; t++, to += stride) {
        const int64_t earlier = t < kept ? kept - t : 0;
        kernels.recurrent.convolve({before + t * stride, own + (t - kept + earlier) * stride, c.taps + first,
                                    c.bias ? c.bias + first : nullptr, earlier, c.kernel, stride},
                                   n, to);
      }
      float* after = memory + states.rows[i].written * kept * stride + first;
      for (int64_t j = 0; j < kept; j++) {
        const int64_t t = count - kept + j;  // below 0 of what came before
        memcpy(after + j * stride, t < 0 ? before + (kept + t) * stride : own + t * stride, n * 4);
      }
      own += count * stride;
    }
  };
  const size_t jobs = (size_t)((stride + JOB_CHANNELS - 1) / JOB_CHANNELS);
  if (states.tokens() * stride < SERIAL_WORK)
    for (size_t job = 0; job < jobs; job++) work(job);
  else
    threads.each(jobs, work);
}

}  // namespace moedge
