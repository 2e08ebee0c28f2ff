// Queries, keys and values are normed, held, rotated and written; then each timeline attends to its rows.

#include "attention.h"

namespace moedge {
namespace {

constexpr int64_t JOB_TOKENS = 8;     // whose rows one job makes; that many are made before other threads have woken
constexpr int64_t QUERIES = 2 << 20;  // numbers that are made before they are used, so that a prompt of any length
constexpr int64_t LEAST_PIECE = 128;  // takes memory of so many, or of so many tokens

class CacheSource final : public KeySource {
 public:
  CacheSource(const Cache& cache, int64_t slot, int64_t kv_heads, int64_t dim) : dim_(dim) {
    head_bytes_ = cache.capacity * cache.row_bytes;
    keys_ = {cache.keys + slot * kv_heads * head_bytes_, head_bytes_, cache.row_bytes, dim, cache.type};
    values_ = keys_;
    values_.begin = cache.values + slot * kv_heads * head_bytes_;
  }
  bool fetch(int64_t first, int64_t, CacheRows* keys, CacheRows* values) override {
    *keys = keys_, *values = values_;
    keys->begin += first * keys_.row_bytes;
    values->begin += first * keys_.row_bytes;
    return true;
  }

 private:
  int64_t dim_, head_bytes_;
  CacheRows keys_, values_;
};

class Rows {
 public:
  Rows(const AttentionKernels& kernels, const Attention& a, const Tables& tables, const Cache& cache)
      : kernels_(kernels), a_(a), tables_(tables), cache_(cache) {}

  // The queries of a token to q [heads * dim].
  void make_queries(const float* joined, const Segment& at, int64_t position, float* q) const {
    shape(joined, a_.heads, tables_.q_norm, row_of(at, position), q);
    kernels_.multiply_by(q, a_.scale, a_.heads * a_.dim);
  }
  // Its key and value into the cache; `room` [kv_heads * dim].
  void write(const float* joined, const Segment& at, int64_t position, float* room) const {
    const int64_t width = a_.kv_heads * a_.dim;
    joined += a_.heads * a_.dim;
    shape(joined, a_.kv_heads, tables_.k_norm, row_of(at, position), room);
    store(room, cache_.keys, at.slot, position);
    if (!a_.key_is_value) joined += width;
    if (a_.clip > 0 || a_.value_norm) {
      kernels_.hold(joined, a_.clip, width, room);
      joined = room;
    }
    for (int64_t h = 0; a_.value_norm && h < a_.kv_heads; h++)
      kernels_.normalize(room + h * a_.dim, nullptr, a_.dim, a_.eps);
    store(joined, cache_.values, at.slot, position);
  }

 private:
  // Where a position's angles stand in the tables.
  int64_t row_of(const Segment& at, int64_t position) const {
    const bool later = a_.switches_at && at.past + at.count > a_.switches_at;
    return (position + (later ? a_.switches_at : 0)) * (a_.rotary / 2);
  }
  void shape(const float* x, int64_t heads, const float* norm, int64_t row, float* out) const {
    const bool whole = a_.norm == Norm::whole;
    kernels_.hold(x, whole ? 0 : a_.clip, heads * a_.dim, out);
    if (whole) {
      kernels_.normalize(out, norm, heads * a_.dim, a_.eps);
      if (a_.clip > 0) kernels_.hold(out, a_.clip, heads * a_.dim, out);
    }
    for (int64_t h = 0; h < heads; h++, out += a_.dim) {
      if (a_.norm == Norm::head) kernels_.normalize(out, norm, a_.dim, a_.eps);
      if (a_.rotary) kernels_.rotate(out, tables_.cos + row, tables_.sin + row, a_.rotary / 2);
    }
  }
  void store(const float* x, uint8_t* rows, int64_t slot, int64_t position) const {
    uint8_t* at = rows + (slot * a_.kv_heads * cache_.capacity + position) * cache_.row_bytes;
    for (int64_t h = 0; h < a_.kv_heads; h++)
      kernels_.store(x + h * a_.dim, a_.dim, cache_.type, at + h * cache_.capacity * cache_.row_bytes);
  }

  const AttentionKernels& kernels_;
  const Attention& a_;
  const Tables& tables_;
  const Cache& cache_;
};

}  // namespace

const char* check_segments(const Segment* segments, int64_t count, int64_t tokens, int64_t slots, int64_t capacity) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i++) {
    const Segment& s = segments[i];
    if (s.slot < 0 || s.slot >= slots) return "a segment's slot is outside of the cache";
    if (s.past < 0 || s.past > capacity || s.count < 0 || s.count > capacity - s.past)
      return "a segment's positions are outside of the cache";
    if (s.count > tokens - sum) return "segments have more tokens than there are";
    sum += s.count;
    for (int64_t j = 0; j < i; j++)
      if (segments[j].slot == s.slot) return "two segments have the same slot";
  }
  return sum == tokens ? nullptr : "segments have fewer tokens than there are";
}

const char* check_tables(const Segment* segments, int64_t count, int64_t rows, int64_t switches_at) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t end = segments[i].past + segments[i].count;
    if (end + (switches_at && end > switches_at ? switches_at : 0) > rows)
      return "a segment's positions are outside of the rotary tables";
  }
  return nullptr;
}

bool run_attention(const Kernels& kernels, const Threads& threads, const Attention& a, const float* joined,
                   const Segment* segments, int64_t count, const Tables& tables, const Cache& cache, float* out) {
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; i++) tokens += segments[i].count;
  if (tokens == 0) return true;
  const int64_t width = a.heads * a.dim, most = QUERIES / width, piece = most < LEAST_PIECE ? LEAST_PIECE : most;
  thread_local Scratch call;
  if (!call.begin((tokens < piece ? tokens : piece) * width * 4)) return false;
  float* q = call.take<float>((tokens < piece ? tokens : piece) * width);
  const Rows rows(kernels.attention, a, tables, cache);
  std::atomic<bool> enough{true};
  // The tokens first ... last - 1 of all: their keys and values, and the queries of as many as there is room for.
  auto make = [&](int64_t first, int64_t last, bool writes) {
    threads.each((last - first + JOB_TOKENS - 1) / JOB_TOKENS, [&](size_t job) {
      thread_local Scratch own;
      if (!own.begin(a.kv_heads * a.dim * 4)) {
        enough = false;
        return;
      }
      float* room = own.take<float>(a.kv_heads * a.dim);
      const int64_t begin = first + (int64_t)job * JOB_TOKENS,
                    end = begin + JOB_TOKENS < last ? begin + JOB_TOKENS : last;
      int64_t before = 0;
      for (int64_t i = 0; i < count && before < end; before += segments[i++].count)
        for (int64_t t = before > begin ? before : begin; t < end && t < before + segments[i].count; t++) {
          const int64_t position = segments[i].past + t - before;
          if (writes) rows.write(joined + t * a.columns(), segments[i], position, room);
          if (t - first < piece)
            rows.make_queries(joined + t * a.columns(), segments[i], position, q + (t - first) * width);
        }
    });
  };
  make(0, tokens, true);
  int64_t made = tokens < piece ? tokens : piece, begin = 0;  // tokens whose queries are there, up to `made`
  for (int64_t i = 0, before = 0; i < count; before += segments[i++].count) {
    const Segment& s = segments[i];
    CacheSource source(cache, s.slot, a.kv_heads, a.dim);
    for (int64_t t = before; t < before + s.count;) {
      // where a timeline is cut is its own: the first piece of a long one begins with it
      if (t == made || (t == before && t > begin && before + s.count > made)) {
        begin = t, made = t + piece < tokens ? t + piece : tokens;
        make(begin, made, false);
      }
      const int64_t end = made < before + s.count ? made : before + s.count;
      const Attend how{a.heads,  a.kv_heads,   a.dim,   a.dim,  end - t, s.past + t - before,
                       a.window, tables.sinks, a.exact, s.count};
      if (!enough || !attend(kernels, threads, how, q + (t - begin) * width, source, out + t * width)) return false;
      t = end;
    }
  }
  return true;
}

}  // namespace moedge
