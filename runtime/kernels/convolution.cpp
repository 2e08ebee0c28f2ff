// Each job takes some channels through all tokens, so that no token waits for another one's row.

#include "convolution.h"

namespace moedge {
namespace {

constexpr int64_t JOB_COLUMNS = 512;       // channels
constexpr int64_t SERIAL_WORK = 32 << 10;  // numbers; fewer are done before other threads have woken

}  // namespace

void run_convolution(const Kernels& kernels, const Threads& threads, const Convolution& c, const float* joined,
                     const Segment* segments, int64_t count, const ConvolutionCache& cache, float* out) {
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; i++) tokens += segments[i].count;
  auto work = [&](size_t job) {
    const int64_t first = (int64_t)job * JOB_COLUMNS;
    const int64_t n = first + JOB_COLUMNS < c.hidden ? JOB_COLUMNS : c.hidden - first;
    const float *x = joined + first, *bias = c.bias ? c.bias + first : nullptr;
    float* to = out + first;
    for (int64_t i = 0; i < count; i++) {
      float* row = cache.rows + (segments[i].slot * cache.capacity + segments[i].past) * c.hidden + first;
      for (int64_t t = 0; t < segments[i].count; t++, x += 3 * c.hidden, row += c.hidden, to += c.hidden) {
        const int64_t before = segments[i].past + t, seen = before + 1 < c.kernel ? before + 1 : c.kernel;
        const float* taps = c.taps + (c.kernel - seen) * c.hidden + first;
        kernels.mixers.convolve({x, x + c.hidden, x + 2 * c.hidden, row - (seen - 1) * c.hidden, taps, bias, c.hidden},
                                seen, n, row, to);
      }
    }
  };
  const size_t jobs = (size_t)((c.hidden + JOB_COLUMNS - 1) / JOB_COLUMNS);
  if (tokens * c.hidden < SERIAL_WORK)
    for (size_t job = 0; job < jobs; job++) work(job);
  else
    threads.each(jobs, work);
}

}  // namespace moedge
