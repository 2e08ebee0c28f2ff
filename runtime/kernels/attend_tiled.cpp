// Keys of some thousands of tokens become tile rows of 16 keys, and their values tile rows of 16 channels in spans of
// SPAN tokens; then each job takes some rows of queries through them, with a running largest score, sum and result.
//
// Spans begin at multiples of SPAN, so that results depend neither on the memory that there is nor on threads.

#include "attend_tiled.h"

namespace moedge {
namespace {

#include "numbers.inc"

constexpr float LOWEST = -3.4e38f;
constexpr float LOG2_E = 1.44269504f;
constexpr int64_t PACKED_BYTES = 8 << 20;  // of keys and values at once, about
constexpr int64_t MOST_PACKED = 2048;      // tokens
constexpr int64_t JOB_ROWS = 64;           // of queries

int64_t bound(int64_t x, int64_t least, int64_t most) { return x < least ? least : x > most ? most : x; }

struct Seen {
  float largest, sum;
};

// Records of tiles that need not be prepared: scales lie in a record as `multiply` reads them, zero points are all the
// same, and offsets stand behind a record.
struct Records {
  Tiles tiles;
  int64_t stride;

  Records(int64_t columns) : tiles(ATTENDED, ROWS, columns), stride(tiles.bytes + tiles.subblocks * ROWS * 4) {}
};

class Tiled {
 public:
  Tiled(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, float* out)
      : kernels_(kernels), threads_(threads), how_(how), q_(q), out_(out), keys_(how.key_width), values_(SPAN) {
    group_ = how.heads / how.kv_heads;
    rows_ = how.tokens * group_;
    total_ = how.past + how.tokens;
    channels_ = (how.value_width + ROWS - 1) / ROWS;
    shifted_ = kernels.shifts;
    const int64_t token_bytes = how.kv_heads * (keys_.stride / ROWS + channels_ * values_.stride / SPAN);
    packed_ = bound(PACKED_BYTES / token_bytes, SPAN, MOST_PACKED) / SPAN * SPAN;
  }

  bool run(KeySource& source) {
    thread_local Scratch call;
    const int64_t begin = first_seen(0) / SPAN * SPAN,
                  spans = bound((total_ - begin + SPAN - 1) / SPAN, 1, packed_ / SPAN);
    packed_ = spans * SPAN;
    head_keys_ = packed_ / ROWS * keys_.stride, head_values_ = spans * channels_ * values_.stride;
    if (!call.begin(how_.kv_heads * (rows_ * sizeof(Seen) + head_keys_ + head_values_ + packed_ / ROWS * 4) +
                    prepared_bytes(values_.tiles)))
      return false;
    seen_ = call.take<Seen>(how_.kv_heads * rows_);
    packed_keys_ = call.take<uint8_t>(how_.kv_heads * head_keys_);
    packed_values_ = call.take<uint8_t>(how_.kv_heads * head_values_);
    odd_ = call.take<uint32_t>(how_.kv_heads * packed_ / ROWS);
    Prepared prepared = take_prepared(call, values_.tiles);
    memset(packed_values_, 0, values_.tiles.bytes);
    kernels_.prepare(values_.tiles, packed_values_, prepared);
    zeros_ = prepared.zeros;
    for (int64_t i = 0; i < how_.kv_heads * rows_; i++) seen_[i] = nothing(i / rows_, i % rows_);
    for (int64_t at = begin; at < total_; at += packed_) {
      const int64_t end = at + packed_ < total_ ? at + packed_ : total_;
      if (!pack(source, at, end)) return false;
      if (!multiply(at, end)) return false;
    }
    return true;
  }

 private:
  int64_t first_seen(int64_t token) const {
    const int64_t end = how_.past + token + 1;
    return how_.window && end > how_.window ? end - how_.window : 0;
  }
  int64_t end_seen(int64_t row) const { return how_.past + row / group_ + 1; }
  int64_t place(int64_t kv, int64_t row) const { return row / group_ * how_.heads + kv * group_ + row % group_; }
  Seen nothing(int64_t kv, int64_t row) const {
    return how_.sinks ? Seen{how_.sinks[kv * group_ + row % group_] * LOG2_E, 1} : Seen{LOWEST, 0};
  }
  uint8_t* key_record(int64_t kv, int64_t record) const {
    return packed_keys_ + kv * head_keys_ + record * keys_.stride;
  }
  uint8_t* value_record(int64_t kv, int64_t span, int64_t tile) const {
    return packed_values_ + kv * head_values_ + (span * channels_ + tile) * values_.stride;
  }

  // Tokens at ... end - 1, of which some at the beginning may be seen by nobody, and are left out.
  bool pack(KeySource& source, int64_t at, int64_t end) {
    const int64_t least = first_seen(0);
    for (int64_t fetched = at; fetched < end;) {
      const int64_t left = end - fetched, count = left < source.longest ? left : source.longest;
      CacheRows keys, values;
      if (!source.fetch(fetched, count, &keys, &values)) return false;
      const int64_t blocks = (count + COLUMNS - 1) / COLUMNS;
      threads_.each(how_.kv_heads * ((blocks + 3) / 4), [&](size_t job) {
        const int64_t kv = (int64_t)job % how_.kv_heads, first = (int64_t)job / how_.kv_heads * 4;
        for (int64_t b = first; b < first + 4 && b < blocks; b++)
          pack_block(kv, keys, values, fetched, fetched + b * COLUMNS, at, fetched + count, least);
      });
      fetched += count;
    }
    return true;
  }
  // 32 tokens from `token` on.
  void pack_block(int64_t kv, CacheRows keys, CacheRows values, int64_t fetched, int64_t token, int64_t at, int64_t end,
                  int64_t least) const {
    const AttentionKernels& k = kernels_.attention;
    keys.begin += kv * keys.head_bytes + (token - fetched) * keys.row_bytes;
    values.begin += kv * values.head_bytes + (token - fetched) * values.row_bytes;
    const int64_t from = bound(least - token, 0, COLUMNS), to = bound(end - token, 0, COLUMNS);
    for (int64_t half = 0; half < 2; half++, keys.begin += ROWS * keys.row_bytes) {
      const int64_t record = (token - at) / ROWS + half;
      uint8_t* bytes = key_record(kv, record);
      odd_[kv * packed_ / ROWS + record] =
          k.pack_keys(keys, bound(from - half * ROWS, 0, ROWS), bound(to - half * ROWS, 0, ROWS), keys_.tiles, bytes);
    }
    const int64_t span = (token - at) / SPAN, s = (token - at) % SPAN / COLUMNS;
    k.pack_values(values, from, to, how_.value_width, values_.tiles, s, value_record(kv, span, 0), values_.stride);
  }

  // All rows of queries through the tokens at ... end - 1.
  bool multiply(int64_t at, int64_t end) {
    const int64_t blocks = (rows_ + JOB_ROWS - 1) / JOB_ROWS;
    std::atomic<bool> enough{true};
    threads_.each(how_.kv_heads * blocks, [&](size_t job) {
      const int64_t kv = (int64_t)job % how_.kv_heads, block = blocks - 1 - (int64_t)job / how_.kv_heads;
      if (!multiply_block(kv, block * JOB_ROWS, bound(rows_ - block * JOB_ROWS, 0, JOB_ROWS), at, end)) enough = false;
    });
    return enough;
  }

  bool multiply_block(int64_t kv, int64_t first, int64_t count, int64_t at, int64_t end) const {
    const int64_t low = first_seen(first / group_), high = end_seen(first + count - 1);
    if (high <= at || low >= end) return true;
    thread_local Scratch own;
    const int64_t together = kernels_.together, row_bytes = keys_.tiles.subblocks * PER_ROW;
    if (!own.begin(count * row_bytes +
                   together * (row_bytes + SPAN * 4 + SPAN / COLUMNS * PER_ROW + channels_ * ROWS * 4)))
      return false;
    uint8_t* queries = own.take<uint8_t>(count * row_bytes);
    uint8_t* alone = own.take<uint8_t>(together * row_bytes);
    float* scores = own.take<float>(together * SPAN);
    uint8_t* weights = own.take<uint8_t>(together * SPAN / COLUMNS * PER_ROW);
    float* products = own.take<float>(together * channels_ * ROWS);
    // rows of a kv head are far from one another, so that no CPU foresees them
    const int64_t lines = (how_.key_width * 4 + 63) / 64;
    for (int64_t row = 0; row < count; row++) {
      const float* x = q_ + place(kv, first + row) * how_.key_width;
      for (int64_t line = 0; line < lines; line++) __builtin_prefetch(x + 16 * line);
    }
    for (int64_t row = 0; row < count; row += together) {
      const int64_t some = bound(count - row, 0, together);
      const uint8_t* members[MOST_TOGETHER];
      for (int64_t m = 0; m < some; m++) {
        uint8_t* to = alone + m * row_bytes;
        kernels_.quantize(q_ + place(kv, first + row + m) * how_.key_width, how_.key_width, keys_.tiles.subblocks, to);
        if (is_odd(to)) seen_[kv * rows_ + first + row + m].sum = __builtin_nanf("");
        members[m] = to;
      }
      join_rows(members, (int)some, keys_.tiles.subblocks, shifted_, queries + row * row_bytes);
    }
    for (int64_t span = at; span < end; span += SPAN) {
      const bool odd = is_odd(kv, span - at, (span + SPAN < end ? span + SPAN : end) - at);
      for (int64_t row = 0; row < count; row += together) {
        const int64_t some = bound(count - row, 0, together);
        look(kv, first + row, (int)some, span, at, end, odd, queries + row * row_bytes, scores, weights, products);
      }
    }
    return true;
  }
  bool is_odd(const uint8_t* row) const {
    for (int64_t s = 0; s < keys_.tiles.subblocks; s++) {
      float scale;
      memcpy(&scale, row + s * PER_ROW + COLUMNS, 4);
      if (!(scale < __builtin_inff())) return true;
    }
    return false;
  }

  // Some rows, multiplied together, through a span of keys.
  void look(int64_t kv, int64_t first, int some, int64_t span, int64_t at, int64_t end, bool odd,
            const uint8_t* queries, float* scores, uint8_t* weights, float* products) const {
    const int64_t span_end = span + SPAN < end ? span + SPAN : end;
    // by as many rows as any instruction set multiplies together: what is no number reaches all that are multiplied
    const int64_t begin = first / MOST_TOGETHER * MOST_TOGETHER, last = bound(begin + MOST_TOGETHER, 0, rows_) - 1;
    const int64_t low = bound(first_seen(begin / group_), span, span_end) / COLUMNS * COLUMNS;
    const int64_t high = (bound(end_seen(last), span, span_end) + COLUMNS - 1) / COLUMNS * COLUMNS;
    if (low >= high) return;
    const int64_t n = high - low;
    kernels_.attention.multiply(keys_.tiles, key_record(kv, (low - at) / ROWS), keys_.stride, n / ROWS, 0, false,
                                zeros_, {queries, some, shifted_}, scores, SPAN);
    float keep[MOST_TOGETHER];
    bool sees[MOST_TOGETHER];  // of this span anything
    for (int m = 0; m < some; m++) {
      float* row = scores + m * SPAN;
      const int64_t own_low = bound(first_seen((first + m) / group_), low, high);
      const int64_t own_high = bound(end_seen(first + m), own_low, high);
      for (int64_t i = 0; i < own_low - low; i++) row[i] = -__builtin_inff();
      for (int64_t i = own_high - low; i < n; i++) row[i] = -__builtin_inff();
      Seen& seen = seen_[kv * rows_ + first + m];
      const float largest = kernels_.attention.largest(row, n), now = largest > seen.largest ? largest : seen.largest;
      keep[m] = exponential((seen.largest - now) * 0.69314718f);
      const float sum = kernels_.attention.weigh(row, n, now, m, some, weights);
      sees[m] = own_low < own_high;
      if (sees[m]) seen = {now, seen.sum * keep[m] + sum};
      if (odd && is_odd(kv, own_low - at, own_high - at)) seen.sum = __builtin_nanf("");
    }
    const int64_t width = channels_ * ROWS;
    Tiles tiles = values_.tiles;
    tiles.subblocks = n / COLUMNS;
    kernels_.attention.multiply(tiles, value_record(kv, (span - at) / SPAN, 0), values_.stride, channels_,
                                (low - span) / COLUMNS, true, zeros_, {weights, some, shifted_}, products, width);
    for (int m = 0; m < some; m++) {
      if (!sees[m]) continue;
      const bool begins = span <= first_seen((first + m) / group_), ends = end_seen(first + m) <= span + SPAN;
      const float take = ends ? 1.0f / seen_[kv * rows_ + first + m].sum : 1.0f;
      kernels_.attention.blend(out_ + place(kv, first + m) * how_.value_width, begins ? 0 : keep[m] * take,
                               products + m * width, take, how_.value_width);
    }
  }
  // Whether one of these packed keys has what is no number.
  bool is_odd(int64_t kv, int64_t low, int64_t high) const {
    for (int64_t record = low / ROWS; record * ROWS < high; record++)
      if (const uint32_t odd = odd_[kv * packed_ / ROWS + record])
        for (int64_t i = 0; i < ROWS; i++)
          if (odd >> i & 1 && record * ROWS + i >= low && record * ROWS + i < high) return true;
    return false;
  }

  const Kernels& kernels_;
  const Threads& threads_;
  const Attend& how_;
  const float* q_;
  float* out_;
  Records keys_, values_;
  int64_t group_, rows_, total_, channels_;
  bool shifted_;
  int64_t packed_;                   // tokens that are packed at once
  int64_t head_keys_, head_values_;  // bytes
  uint8_t *packed_keys_, *packed_values_;
  uint32_t* odd_;  // [kv heads][packed / 16]
  int32_t* zeros_;
  Seen* seen_;  // [kv heads][rows]
};

}  // namespace

bool attend_tiled(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, KeySource& source,
                  float* out) {
  return Tiled(kernels, threads, how, q, out).run(source);
}

}  // namespace moedge
