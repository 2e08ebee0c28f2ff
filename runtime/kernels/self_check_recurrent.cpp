// Recurrences of a small head, with columns that fill vectors of every width and some that fill none.

#include <cstring>

#include "self_check.h"
#include "self_check_random.h"

namespace moedge {
namespace {

constexpr int TOKENS = 3, ROWS_KEPT = 11, COLUMNS_KEPT = 150, PADDED = 160, TAPS = 4;

struct Recurred {
  float convolved[COLUMNS_KEPT], keep[2][TOKENS * ROWS_KEPT], keys[TOKENS * ROWS_KEPT], queries[TOKENS * ROWS_KEPT];
  float kept_keys[TOKENS * ROWS_KEPT], kept_queries[TOKENS * ROWS_KEPT], products[TOKENS];
  float shares[TOKENS], steps[TOKENS], kept[TOKENS], gated[2][COLUMNS_KEPT];
  float out[3][TOKENS * PADDED], states[3][ROWS_KEPT * COLUMNS_KEPT];

  void run(const RecurrentKernels& k, uint32_t seed) {
    memset(this, 0, sizeof *this);
    Random random(seed);
    float x[TAPS * COLUMNS_KEPT], taps[TAPS * COLUMNS_KEPT], decay[TOKENS * ROWS_KEPT], gate[COLUMNS_KEPT];
    float values[TOKENS * PADDED], from[ROWS_KEPT * COLUMNS_KEPT], room[ROWS_KEPT * PADDED];
    random.fill(x, 2), random.fill(taps, 1), random.fill(decay, 20), random.fill(gate, 9);
    random.fill(values, 2), random.fill(from, 1), random.fill(shares, 5), random.fill(steps, 5);
    for (int t = 0; t < TOKENS; t++)
      memset(values + t * PADDED + COLUMNS_KEPT, 0, (PADDED - COLUMNS_KEPT) * sizeof(float));
    k.convolve({x, x + COLUMNS_KEPT, taps, gate, 1, TAPS, COLUMNS_KEPT}, COLUMNS_KEPT, convolved);
    for (int bounded = 0; bounded < 2; bounded++)
      k.forget({bounded != 0, -5}, -0.7f, decay, TOKENS * ROWS_KEPT, keep[bounded]);
    for (int t = 0; t < TOKENS; t++) {
      const int at = t * ROWS_KEPT;
      k.set_length(x + at, ROWS_KEPT, 1, keys + at), k.set_length(taps + at, ROWS_KEPT, 0.3f, queries + at);
      products[t] = k.keep_rows(keep[0] + at, keys + at, queries + at, ROWS_KEPT, kept_keys + at, kept_queries + at);
    }
    k.sigmoid(shares, TOKENS);
    k.time_steps({0.1f, 2}, -1.3f, TOKENS, steps, kept);
    DeltaRule rule{};
    take(rule, shares, values, from, room, 0);
    rule.kept_keys = kept_keys, rule.kept_queries = kept_queries, rule.products = products;
    k.delta_rule(rule);
    rule.tokens = 1, rule.out = out[2], rule.to = states[2];
    k.delta_rule(rule);
    Selective other{};
    take(other, steps, values, from, room, 1);
    other.queries = queries, other.skip = 0.4f;
    k.selective(other);
    for (int silu = 0; silu < 2; silu++) {
      memcpy(gated[silu], out[silu], sizeof gated[silu]);
      k.gate(silu != 0, gate, COLUMNS_KEPT, gated[silu]);
    }
  }

 private:
  void take(Recurrence& rule, const float* steps_of, const float* values, const float* from, float* room, int which) {
    rule.tokens = TOKENS, rule.rows = ROWS_KEPT, rule.columns = COLUMNS_KEPT, rule.stride = ROWS_KEPT;
    rule.keep = keep[which], rule.keys = keys, rule.values = values, rule.steps = steps_of;
    rule.out = out[which], rule.from = from, rule.to = states[which], rule.room = room;
  }
};

}  // namespace

const char* check_recurrent(const Kernels& kernels, uint32_t seed) {
  Recurred found, wanted;
  found.run(kernels.recurrent, seed), wanted.run(SCALAR.recurrent, seed);
  return memcmp(&found, &wanted, sizeof found) ? "a mixer over a state differs from the scalar one" : nullptr;
}

}  // namespace moedge
