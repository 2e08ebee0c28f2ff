// Logits are products in fp32 as attention makes them; each job takes some experts for some tokens. What they decide is
// made of them token by token.

#include "router.h"

namespace moedge {
namespace {

#include "numbers.inc"

constexpr int64_t JOB_BYTES = 64 << 10;  // of weights, at least
constexpr int64_t JOB_EXPERTS = 16;      // and as many experts: what is multiplied at once
constexpr int64_t JOB_TOKENS = 32;       // that read the same weights, at most
constexpr int64_t SERIAL_TOKENS = 16;    // fewer decide before other threads have woken

// Both parts are right to a few units of their last digit.
float tanh_of(float x) {
  const float size = x < 0 ? -x : x, z = x * x;
  if (!(size < 0.625f)) {
    const float t = 1 - 2 / (exponential(2 * size) + 1);
    return x == x ? x < 0 ? -t : t : x;
  }
  float p = 2.29584e-3f;
  p = fma32(p, z, -8.34698e-3f);
  p = fma32(p, z, 2.176996e-2f);
  p = fma32(p, z, -5.395941e-2f);
  p = fma32(p, z, 0.13333304f);
  p = fma32(p, z, -0.33333333f);
  return fma32(x * z, p, x);
}

// Logits of experts from ... to - 1 and tokens first ... end - 1, to [tokens, experts].
bool multiply(const Kernels& kernels, const Router& r, const float* x, int64_t from, int64_t to, int64_t first,
              int64_t end, float* logits) {
  thread_local Scratch own;
  const int64_t tokens = end - first, wide = padded(r.hidden);
  if (!own.begin((tokens * SCORES + tokens * wide) * 4)) return false;
  float* scores = own.take<float>(tokens * SCORES);
  const float* rows = x + first * r.hidden;
  if (wide != r.hidden) {
    float* filled = own.take<float>(tokens * wide);
    memset(filled, 0, tokens * wide * 4);
    for (int64_t t = 0; t < tokens; t++) memcpy(filled + t * wide, rows + t * r.hidden, r.hidden * 4);
    rows = filled;
  }
  const auto* weights = reinterpret_cast<const uint8_t*>(r.weight + from * r.hidden);
  const CacheRows keys{weights, 0, r.hidden * 4, r.hidden, RowType::float32};
  kernels.attention.score(keys, to - from, r.hidden, rows, tokens, scores);
  for (int64_t t = 0; t < tokens; t++)
    for (int64_t e = from; e < to; e++) {
      const float logit = scores[t * SCORES + e - from] + (r.bias ? r.bias[e] : 0);
      logits[(first + t) * r.experts + e] = r.softcap > 0 ? r.softcap * tanh_of(logit / r.softcap) : logit;
    }
  return true;
}

float sigmoid(float x) { return x == x ? 1 / (1 + exponential(-x)) : x; }  // what is no number stays none

// One token's decision; `room` has what `room_of` tells, `weigh` holds nothing yet and `select` the logits.
class Decision {
 public:
  Decision(const Kernels& kernels, const Router& router, float* room)
      : kernels_(kernels), r_(router), room_(room), values_(room + router.experts + LANES) {
    places_ = reinterpret_cast<int32_t*>(values_ + router.experts);
  }

  static int64_t room_of(const Router& r) { return 3 * r.experts + LANES; }

  void make(float* select, float* weigh) const {
    if (r_.scoring == Scoring::sparsemixer) return mix(select, weigh);
    if (r_.scoring == Scoring::softmax)
      soften(select, weigh);
    else
      for (int64_t e = 0; e < r_.experts; e++) weigh[e] = sigmoid(select[e]);
    // alone, logits rank as scores do, also where those are all 0 or 1 in fp32
    if (r_.correction || r_.groups > 1)
      for (int64_t e = 0; e < r_.experts; e++) select[e] = weigh[e] + (r_.correction ? r_.correction[e] : 0);
    if (r_.groups > 1) close_groups(select);
    if (r_.normalize) normalize(select, weigh);
  }

 private:
  void soften(const float* logits, float* scores) const {
    float most, sum;
    memcpy(room_, logits, r_.experts * 4);
    kernels_.attention.soften(room_, r_.experts, &most, &sum);
    for (int64_t e = 0; e < r_.experts; e++) scores[e] = room_[e] / sum;
  }

  // Groups with as large a sum as the last open one stay open too.
  void close_groups(float* select) const {
    const int64_t size = r_.experts / r_.groups, best = r_.group_best < size ? r_.group_best : size;
    float* sums = room_;
    for (int64_t g = 0; g < r_.groups; g++) {
      rank(select + g * size, size, best, places_, values_);
      sums[g] = 0;
      for (int64_t i = 0; i < best; i++) sums[g] += values_[i];
    }
    rank(sums, r_.groups, r_.open_groups, places_, values_);
    const float least = values_[r_.open_groups - 1];
    for (int64_t e = 0; e < r_.experts; e++)
      if (sums[e / size] < least) select[e] = -__builtin_inff();
  }

  void normalize(const float* select, float* weigh) const {
    rank(select, r_.experts, r_.chosen, places_, values_);
    float sum = 0;
    for (int64_t i = 0; i < r_.chosen; i++) sum += weigh[places_[i]];
    sum += r_.eps;
    if (sum < r_.least_sum) sum = r_.least_sum;
    for (int64_t e = 0; e < r_.experts; e++) weigh[e] /= sum;
  }

  // In turn, each of the chosen counts its softmax over those that are left and close to it.
  void mix(const float* logits, float* weigh) const {
    float* left = room_;
    memcpy(left, logits, r_.experts * 4);
    memset(weigh, 0, r_.experts * 4);
    for (int64_t turn = 0; turn < r_.chosen; turn++) {
      float best = -__builtin_inff(), sum = 0;
      for (int64_t e = 0; e < r_.experts; e++) best = left[e] > best ? left[e] : best;
      if (best == -__builtin_inff()) return;  // equal ones were chosen in one turn
      for (int64_t e = 0; e < r_.experts; e++) {
        const float size = logits[e] < 0 ? -logits[e] : logits[e];
        const bool far = (best - logits[e]) / (size > best ? size : best) > 2 * r_.jitter;
        if (!far && left[e] > -__builtin_inff()) sum += exponential(left[e] - best);
      }
      for (int64_t e = 0; e < r_.experts; e++)
        if (left[e] == best) weigh[e] = 1 / sum, left[e] = -__builtin_inff();
    }
  }

  const Kernels& kernels_;
  const Router& r_;
  float* room_;    // [experts + LANES]
  float* values_;  // [experts]
  int32_t* places_;
};

}  // namespace

void rank(const float* scores, int64_t count, int64_t most, int32_t* places, float* values) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; i++) {
    const float score = scores[i] == scores[i] ? scores[i] : -__builtin_inff();
    if (found == most && !(score > values[found - 1])) continue;
    int64_t at = found < most ? found++ : found - 1;
    for (; at > 0 && score > values[at - 1]; at--) places[at] = places[at - 1], values[at] = values[at - 1];
    places[at] = (int32_t)i, values[at] = score;
  }
}

bool run_router(const Kernels& kernels, const Threads& threads, const Router& router, const float* x, int64_t tokens,
                float* select, float* weigh) {
  if (tokens == 0) return true;
  int64_t step = JOB_EXPERTS;
  while (step < RUN && step * router.hidden * 4 < JOB_BYTES) step += JOB_EXPERTS;
  const int64_t parts = (router.experts + step - 1) / step, blocks = (tokens + JOB_TOKENS - 1) / JOB_TOKENS;
  std::atomic<bool> enough{true};
  threads.each((size_t)(parts * blocks), [&](size_t job) {
    const int64_t from = (int64_t)job % parts * step, first = (int64_t)job / parts * JOB_TOKENS;
    const int64_t to = from + step < router.experts ? from + step : router.experts;
    const int64_t end = first + JOB_TOKENS < tokens ? first + JOB_TOKENS : tokens;
    if (!multiply(kernels, router, x, from, to, first, end, select)) enough = false;
  });
  if (!enough || router.scoring == Scoring::none) return enough;
  auto decide = [&](int64_t first, int64_t end) {
    thread_local Scratch own;
    if (!own.begin(Decision::room_of(router) * 4)) {
      enough = false;
      return;
    }
    const Decision decision(kernels, router, own.take<float>(Decision::room_of(router)));
    for (int64_t t = first; t < end; t++) decision.make(select + t * router.experts, weigh + t * router.experts);
  };
  if (tokens < SERIAL_TOKENS)
    decide(0, tokens);
  else
    threads.each((size_t)blocks, [&](size_t job) {
      const int64_t first = (int64_t)job * JOB_TOKENS;
      decide(first, first + JOB_TOKENS < tokens ? first + JOB_TOKENS : tokens);
    });
  return enough;
}

}  // namespace moedge
