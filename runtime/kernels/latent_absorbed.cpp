// Queries are brought to the latent rows: q' = q W_uk, attention over these rows as they lie, then its result times
// W_uv. Every head's part of kv_b is read twice, as it lies.

#include "latent_parts.h"
#include "linear.h"

namespace moedge {
namespace {

constexpr int64_t ABSORBED = 4;     // tokens for which a tile row is unpacked once
constexpr int64_t JOB_TOKENS = 32;  // of a head

struct RowSource final : KeySource {
  const CacheRows rows;

  explicit RowSource(const CacheRows& all) : rows(all) {}
  bool fetch(int64_t first, int64_t, CacheRows* keys, CacheRows* values) override {
    *keys = rows;
    keys->begin += first * rows.row_bytes;
    *values = *keys;
    return true;
  }
};

class Absorbed {
 public:
  Absorbed(const LatentCall& call, int64_t tokens)
      : kernels_(call.kernels), l_(call.latent), weights_(call.weights), tokens_(tokens) {
    blocks_ = (tokens + JOB_TOKENS - 1) / JOB_TOKENS;
  }
  int64_t jobs() const { return l_.heads * blocks_; }

  // A job's queries q [tokens, heads, nope + rope] to `to` [tokens, heads, rank + rope].
  bool absorb(int64_t job, const float* q, float* to) const {
    const int64_t h = job % l_.heads, first = job / l_.heads * JOB_TOKENS, end = last(first);
    thread_local Scratch own;
    const int64_t room = weights_.plain ? SCORES + padded(l_.rank) : ROWS + l_.up.subblocks * COLUMNS * 4;
    if (!own.begin(ABSORBED * room * 4 + prepared_bytes(l_.up))) return false;
    for (int64_t t = first; t < end; t += ABSORBED) {
      const int64_t some = end - t < ABSORBED ? end - t : ABSORBED;
      const float* from = q + (t * l_.heads + h) * l_.key();
      float* out = to + (t * l_.heads + h) * l_.width();
      own.begin(0);
      if (weights_.plain)
        absorb_plain(h, some, from, own, out);
      else
        absorb_tiles(h, some, from, own, out);
      for (int64_t m = 0; m < some; m++)
        memcpy(out + m * l_.heads * l_.width() + l_.rank, from + m * l_.heads * l_.key() + l_.nope, l_.rope * 4);
    }
    return true;
  }

  // A job's results x [tokens, heads, rank] times W_uv, to out [tokens, heads * v].
  bool expand(int64_t job, const float* x, float* out) const {
    const int64_t h = job % l_.heads, first = job / l_.heads * JOB_TOKENS, count = last(first) - first;
    x += (first * l_.heads + h) * l_.rank, out += (first * l_.heads + h) * l_.v;
    return weights_.plain ? expand_plain(h, count, x, out) : expand_tiles(h, count, x, out);
  }

 private:
  int64_t last(int64_t first) const { return first + JOB_TOKENS < tokens_ ? first + JOB_TOKENS : tokens_; }
  int64_t key_row(int64_t h) const { return h * (l_.nope + l_.v); }
  const float* plain_row(int64_t row) const { return weights_.plain + row * l_.rank; }
  CacheRows plain_rows(int64_t row) const {
    return {reinterpret_cast<const uint8_t*>(plain_row(row)), 0, l_.rank * 4, l_.rank, RowType::float32};
  }

  void absorb_tiles(int64_t h, int64_t some, const float* q, Scratch& own, float* out) const {
    const int64_t begin = key_row(h), end = begin + l_.nope, width = l_.up.subblocks * COLUMNS * 4;
    const Prepared prepared = take_prepared(own, l_.up);
    float* weights = own.take<float>(some * ROWS);
    float* sums = own.take<float>(some * width);
    memset(sums, 0, some * width * 4);
    const int64_t tiles = (end + ROWS - 1) / ROWS;
    for (int64_t t = begin / ROWS; t < tiles; t++) {
      const uint8_t* record = weights_.tiles + t * l_.up.bytes;
      float factors[ROWS];
      if (l_.up.has_factors()) memcpy(factors, record + l_.up.factors, sizeof factors);
      for (int64_t m = 0; m < some; m++)
        for (int64_t r = 0; r < ROWS; r++) {
          const int64_t row = t * ROWS + r - begin;
          const float weight = row >= 0 && row < l_.nope ? q[m * l_.heads * l_.key() + row] : 0;
          weights[m * ROWS + r] = l_.up.has_factors() ? weight * factors[r] : weight;
        }
      kernels_.prepare(l_.up, record, prepared);
      kernels_.mixers.multiply_across(l_.up, record, t + 1 < tiles ? record + l_.up.bytes : nullptr, prepared, weights,
                                      (int)some, sums);
    }
    for (int64_t m = 0; m < some; m++) kernels_.mixers.fold(sums + m * width, l_.rank, out + m * l_.heads * l_.width());
  }

  void absorb_plain(int64_t h, int64_t some, const float* q, Scratch& own, float* out) const {
    float* weights = own.take<float>(some * SCORES);
    float* sums = own.take<float>(some * padded(l_.rank));
    memset(sums, 0, some * padded(l_.rank) * 4);
    for (int64_t row = 0; row < l_.nope; row += RUN) {
      const int64_t n = l_.nope - row < RUN ? l_.nope - row : RUN;
      for (int64_t m = 0; m < some; m++) memcpy(weights + m * SCORES, q + m * l_.heads * l_.key() + row, n * 4);
      kernels_.attention.gather(plain_rows(key_row(h) + row), n, l_.rank, weights, some, sums);
    }
    for (int64_t m = 0; m < some; m++) memcpy(out + m * l_.heads * l_.width(), sums + m * padded(l_.rank), l_.rank * 4);
  }

  bool expand_tiles(int64_t h, int64_t count, const float* x, float* out) const {
    const int planes = l_.exact ? 3 : 1;
    const int64_t row_bytes = l_.up.subblocks * PER_ROW, rows = count * planes;
    const bool shifted = shifts(kernels_, l_.up, rows);
    thread_local Scratch own;
    if (!own.begin(TileRows::bytes(l_.up, shifted) + 2 * rows * row_bytes + l_.rank * 4 + 4)) return false;
    TileRows tile_rows(kernels_, l_.up, shifted, own);
    uint8_t* alone = own.take<uint8_t>(rows * row_bytes);
    uint8_t* joined = own.take<uint8_t>(rows * row_bytes);
    float* left = own.take<float>(l_.rank);
    for (int64_t i = 0; i < count; i++)
      round_planes(kernels_, l_.up, x + i * l_.heads * l_.rank, planes, left, alone + i * planes * row_bytes);
    for (int64_t g = 0; g * kernels_.together < rows; g++) join_group(kernels_, l_.up, alone, rows, g, shifted, joined);
    // rows that stand in the same tile rows and are not this head's values go nowhere
    struct Values {
      int64_t begin, v, stride;
      float *out, *nowhere;
    } values{key_row(h) + l_.nope, l_.v, l_.heads * l_.v, out, own.take<float>(1)};
    const Places places{[](const void* self, int64_t row) {
                          const Values& all = *static_cast<const Values*>(self);
                          const int64_t own_row = row - all.begin;
                          return own_row >= 0 && own_row < all.v ? Column{all.out + own_row, all.stride}
                                                                 : Column{all.nowhere, 0};
                        },
                        &values};
    multiply_tiles(kernels_, l_.up, weights_.tiles, values.begin / ROWS, (values.begin + l_.v + ROWS - 1) / ROWS,
                   {joined, rows, planes, shifted}, tile_rows, places);
    return true;
  }

  bool expand_plain(int64_t h, int64_t count, const float* x, float* out) const {
    thread_local Scratch own;
    if (!own.begin(ABSORBED * (padded(l_.rank) + SCORES) * 4)) return false;
    float* padded_rows = own.take<float>(ABSORBED * padded(l_.rank));
    float* products = own.take<float>(ABSORBED * SCORES);
    memset(padded_rows, 0, ABSORBED * padded(l_.rank) * 4);
    for (int64_t t = 0; t < count; t += ABSORBED) {
      const int64_t some = count - t < ABSORBED ? count - t : ABSORBED;
      for (int64_t m = 0; m < some; m++)
        memcpy(padded_rows + m * padded(l_.rank), x + (t + m) * l_.heads * l_.rank, l_.rank * 4);
      for (int64_t row = 0; row < l_.v; row += RUN) {
        const int64_t n = l_.v - row < RUN ? l_.v - row : RUN;
        kernels_.attention.score(plain_rows(key_row(h) + l_.nope + row), n, l_.rank, padded_rows, some, products);
        for (int64_t m = 0; m < some; m++) memcpy(out + (t + m) * l_.heads * l_.v + row, products + m * SCORES, n * 4);
      }
    }
    return true;
  }

  const Kernels& kernels_;
  const Latent& l_;
  const LatentWeights& weights_;
  int64_t tokens_, blocks_;
};

}  // namespace

bool attend_absorbed(const LatentCall& call, const LatentPart* parts, int64_t count, const float* q, float* out) {
  const Latent& l = call.latent;
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; i++) tokens += parts[i].tokens;
  thread_local Scratch memory;
  if (!memory.begin(tokens * l.heads * (l.width() + l.rank) * 4)) return false;
  float* queries = memory.take<float>(tokens * l.heads * l.width());
  float* results = memory.take<float>(tokens * l.heads * l.rank);
  const Absorbed absorbed(call, tokens);
  std::atomic<bool> enough{true};
  call.threads.each((size_t)absorbed.jobs(), [&](size_t job) {
    if (!absorbed.absorb((int64_t)job, q, queries)) enough = false;
  });
  int64_t at = 0;
  for (int64_t i = 0; i < count && enough; at += parts[i++].tokens) {
    const LatentPart& part = parts[i];
    RowSource source(part.rows);
    const Attend how{l.heads, 1, l.width(), l.rank, part.tokens, part.past, 0, nullptr, l.exact, part.came};
    if (!attend(call.kernels, call.threads, how, queries + at * l.heads * l.width(), source,
                results + at * l.heads * l.rank))
      return false;
  }
  call.threads.each((size_t)absorbed.jobs(), [&](size_t job) {
    if (!absorbed.expand((int64_t)job, results, out)) enough = false;
  });
  return enough;
}

}  // namespace moedge
