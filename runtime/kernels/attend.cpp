// The direct way of attention, in fp32 over rows as they lie, and the choice between it and the tiled one.
//
// Keys are taken in runs that begin at multiples of RUN, whatever the threads and however a prompt is cut. Of a row of
// queries each run gives its largest score, the sum of its exponentials and its weighted sum of values; they are put
// together in the order of the runs.

#include "attend.h"

#include "attend_tiled.h"

namespace moedge {
namespace {

#include "numbers.inc"

constexpr float LOWEST = -3.4e38f;
constexpr int64_t SERIAL_WORK = 1 << 16;  // products; fewer are done before other threads have woken
constexpr int64_t BLOCK_ROWS = 32;        // rows of queries that a job takes
constexpr int64_t SUMS_BYTES = 8 << 20;   // of sums of runs that wait to be put together, about
constexpr int64_t MANY_JOBS = 16;         // from so many blocks of rows on, their runs are no jobs of their own

// What a row has seen: largest score, sum of e^(score - largest); the weighted sum of values is elsewhere.
struct Seen {
  float largest, sum;
};

class Direct {
 public:
  Direct(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, float* out)
      : kernels_(kernels.attention), threads_(threads), how_(how), q_(q), out_(out) {
    group_ = how.heads / how.kv_heads;
    rows_ = how.tokens * group_;
    total_ = how.past + how.tokens;
    begin_ = first_seen(0) / RUN * RUN;
    runs_ = (total_ - begin_ + RUN - 1) / RUN;
    key_width_ = padded(how.key_width), value_width_ = padded(how.value_width);
  }

  bool run(KeySource& source) {
    const int64_t blocks = (rows_ + BLOCK_ROWS - 1) / BLOCK_ROWS;
    if (how_.kv_heads * blocks < MANY_JOBS && total_ - begin_ <= source.longest) return run_parts(source, blocks);
    return run_blocks(source, blocks);
  }

 private:
  int64_t first_seen(int64_t token) const {
    const int64_t end = how_.past + token + 1;
    return how_.window && end > how_.window ? end - how_.window : 0;
  }
  int64_t end_seen(int64_t row) const { return how_.past + row / group_ + 1; }
  int64_t place(int64_t kv, int64_t row) const {  // of a row of the queries and of `out`
    return row / group_ * how_.heads + kv * group_ + row % group_;
  }
  Seen nothing(int64_t kv, int64_t row) const {
    return how_.sinks ? Seen{how_.sinks[kv * group_ + row % group_], 1} : Seen{LOWEST, 0};
  }
  size_t work_bytes() const { return BLOCK_ROWS * (key_width_ + SCORES + value_width_) * 4; }

  // Copies the queries of some rows, padded.
  void take_queries(int64_t kv, int64_t first, int64_t count, float* to) const {
    memset(to, 0, count * key_width_ * 4);
    for (int64_t i = 0; i < count; i++)
      memcpy(to + i * key_width_, q_ + place(kv, first + i) * how_.key_width, how_.key_width * 4);
  }

  // What rows first ... first + count - 1 see in the run that begins at position `at`: `seen` and sums of values.
  void look(const CacheRows& keys, const CacheRows& values, int64_t first, int64_t count, int64_t at, const float* q,
            float* scores, Seen* seen, float* sums) const {
    const int64_t run_end = at + RUN < total_ ? at + RUN : total_;
    // rows see more and more, so that the first one has the least of both ends
    const int64_t low = bound(first_seen(first / group_), at, run_end);
    const int64_t high = bound(end_seen(first + count - 1), at, run_end);
    memset(sums, 0, count * value_width_ * 4);
    if (low < high) kernels_.score(from(keys, low), high - low, how_.key_width, q, count, scores);
    const int64_t all_low = bound(first_seen((first + count - 1) / group_), low, high);
    const int64_t all_high = bound(end_seen(first), all_low, high);
    for (int64_t i = 0; i < count; i++) {
      const int64_t own_low = bound(first_seen((first + i) / group_), low, high);
      const int64_t own_high = bound(end_seen(first + i), own_low, high);
      seen[i] = {LOWEST, 0};
      if (own_low < own_high)
        kernels_.soften(scores + i * SCORES + own_low - low, own_high - own_low, &seen[i].largest, &seen[i].sum);
      gather(values, own_low, own_high < all_low ? own_high : all_low, low, scores + i * SCORES, 1,
             sums + i * value_width_);
    }
    gather(values, all_low, all_high, low, scores, count, sums);
    for (int64_t i = 0; i < count; i++) {
      const int64_t own_low = bound(first_seen((first + i) / group_), low, high);
      const int64_t own_high = bound(end_seen(first + i), own_low, high);
      gather(values, own_low > all_high ? own_low : all_high, own_high, low, scores + i * SCORES, 1,
             sums + i * value_width_);
    }
  }
  static int64_t bound(int64_t x, int64_t least, int64_t most) { return x < least ? least : x > most ? most : x; }
  CacheRows from(CacheRows rows, int64_t token) const {
    rows.begin += token * rows.row_bytes;
    return rows;
  }
  void gather(const CacheRows& values, int64_t low, int64_t high, int64_t scored, const float* weights, int64_t rows,
              float* sums) const {
    if (low < high)
      kernels_.gather(from(values, low), high - low, how_.value_width, weights + low - scored, rows, sums);
  }
  // Keys or values of a kv head, so that token t is t rows from its beginning.
  CacheRows of_head(CacheRows rows, int64_t kv, int64_t fetched) const {
    rows.begin += kv * rows.head_bytes - fetched * rows.row_bytes;
    return rows;
  }
  void merge(Seen& seen, float* out, const Seen& more, const float* sums) const {
    if (more.sum == 0) return;  // it sees nothing of that run
    const float largest = seen.largest > more.largest ? seen.largest : more.largest;
    const float keep = weight(seen.largest - largest), take = weight(more.largest - largest);
    seen = {largest, fma32(more.sum, take, seen.sum * keep)};
    kernels_.blend(out, keep, sums, take, how_.value_width);
  }
  static float weight(float x) { return x == x ? exponential(x) : x; }
  // A row whose every score is minus infinity has no result.
  void finish(const Seen& seen, float* out) const {
    const float sum = seen.largest == LOWEST ? __builtin_nanf("") : seen.sum;
    kernels_.blend(out, 1.0f / sum, out, 0, how_.value_width);
  }

  // Jobs are blocks of rows, each of which goes through all runs.
  bool run_blocks(KeySource& source, int64_t blocks) {
    thread_local Scratch call;
    if (!call.begin(how_.kv_heads * rows_ * sizeof(Seen))) return false;
    Seen* seen = call.take<Seen>(how_.kv_heads * rows_);
    std::atomic<bool> enough{true};
    for (int64_t fetched = begin_; fetched < total_;) {
      const int64_t left = total_ - fetched, count = left < source.longest ? left : source.longest;
      CacheRows keys, values;
      if (!source.fetch(fetched, count, &keys, &values)) return false;
      threads_.each(how_.kv_heads * blocks, [&](size_t job) {
        const int64_t kv = (int64_t)job % how_.kv_heads, block = blocks - 1 - (int64_t)job / how_.kv_heads;
        const int64_t first = block * BLOCK_ROWS, rows = bound(rows_ - first, 0, BLOCK_ROWS);
        thread_local Scratch own;
        if (!own.begin(work_bytes() + 64 * 3)) {
          enough = false;
          return;
        }
        float* q = own.take<float>(rows * key_width_);
        float* scores = own.take<float>(rows * SCORES);
        float* sums = own.take<float>(rows * value_width_);
        take_queries(kv, first, rows, q);
        Seen* states = seen + kv * rows_ + first;
        for (int64_t i = 0; fetched == begin_ && i < rows; i++) {
          states[i] = nothing(kv, first + i);
          memset(out_ + place(kv, first + i) * how_.value_width, 0, how_.value_width * 4);
        }
        int64_t at = first_seen(first / group_) / RUN * RUN;
        const int64_t end = end_seen(first + rows - 1) < fetched + count ? end_seen(first + rows - 1) : fetched + count;
        for (at = at < fetched ? fetched : at; at < end; at += RUN) {
          Seen found[BLOCK_ROWS];
          look(of_head(keys, kv, fetched), of_head(values, kv, fetched), first, rows, at, q, scores, found, sums);
          for (int64_t i = 0; i < rows; i++)
            merge(states[i], out_ + place(kv, first + i) * how_.value_width, found[i], sums + i * value_width_);
        }
        for (int64_t i = 0; fetched + count == total_ && i < rows; i++)
          finish(states[i], out_ + place(kv, first + i) * how_.value_width);
      });
      fetched += count;
    }
    return enough;
  }

  // Jobs are a run of a block of rows; whoever ends a block's last one puts them together. There are as many runs at
  // once as there is room for.
  bool run_parts(KeySource& source, int64_t blocks) {
    CacheRows keys, values;
    if (!source.fetch(begin_, total_ - begin_, &keys, &values)) return false;
    // a run of many rows is worth several jobs where there are few runs
    const int64_t block_rows = how_.kv_heads * runs_ * blocks < MANY_JOBS && rows_ > 8 ? 8 : BLOCK_ROWS;
    blocks = (rows_ + block_rows - 1) / block_rows;
    thread_local Scratch call;
    const int64_t all_rows = how_.kv_heads * rows_, a_run = all_rows * (int64_t)(sizeof(Seen) + value_width_ * 4);
    const int64_t most = bound(SUMS_BYTES / a_run, 1, runs_);
    if (!call.begin(most * a_run + all_rows * sizeof(Seen) + how_.kv_heads * blocks * sizeof(std::atomic<int64_t>)))
      return false;
    float* sums = call.take<float>(most * all_rows * value_width_);  // [kv heads][blocks][runs][rows of a block][width]
    Seen* seen = call.take<Seen>(most * all_rows);
    Seen* states = call.take<Seen>(all_rows);
    auto* left = call.take<std::atomic<int64_t>>(how_.kv_heads * blocks);
    std::atomic<bool> enough{true};
    const bool serial =
        how_.heads * how_.tokens * (total_ - begin_) * (how_.key_width + how_.value_width) < SERIAL_WORK;
    for (int64_t done = 0, runs; done < runs_; done += runs) {
      runs = bound(most, 1, runs_ - done);
      for (int64_t i = 0; i < how_.kv_heads * blocks; i++) left[i].store(runs, std::memory_order_relaxed);
      auto work = [&](size_t job) {
        const int64_t run = (int64_t)job % runs, block = (int64_t)job / runs % blocks;
        const int64_t kv = (int64_t)job / runs / blocks;
        const int64_t first = block * block_rows, rows = bound(rows_ - first, 0, block_rows);
        const int64_t parts = (kv * rows_ + first) * runs, part = parts + run * rows;
        thread_local Scratch own;
        if (!own.begin(work_bytes() + 64 * 3)) {
          enough = false;
          return;
        }
        float* q = own.take<float>(rows * key_width_);
        take_queries(kv, first, rows, q);
        look(of_head(keys, kv, begin_), of_head(values, kv, begin_), first, rows, begin_ + (done + run) * RUN, q,
             own.take<float>(rows * SCORES), seen + part, sums + part * value_width_);
        if (left[kv * blocks + block].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
        for (int64_t i = 0; i < rows; i++) {
          Seen& state = states[kv * rows_ + first + i];
          float* out = out_ + place(kv, first + i) * how_.value_width;
          if (done == 0) {
            state = nothing(kv, first + i);
            memset(out, 0, how_.value_width * 4);
          }
          for (int64_t at = parts + i; at < parts + runs * rows; at += rows)
            merge(state, out, seen[at], sums + at * value_width_);
          if (done + runs == runs_) finish(state, out);
        }
      };
      const int64_t jobs = how_.kv_heads * blocks * runs;
      if (!serial)
        threads_.each(jobs, work);
      else
        for (int64_t job = 0; job < jobs; job++) work((size_t)job);
      if (!enough) return false;
    }
    return true;
  }

  const AttentionKernels& kernels_;
  const Threads& threads_;
  const Attend& how_;
  const float* q_;
  float* out_;
  int64_t group_, rows_, total_;  // query heads a kv head, rows of queries a kv head, positions
  int64_t begin_, runs_;          // where the first run begins, and how many there are
  int64_t key_width_, value_width_;
};

}  // namespace

bool attend(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, KeySource& source,
            float* out) {
  if (how.tokens == 0) return true;
  if (!how.exact && (how.came ? how.came : how.tokens) >= TILED_TOKENS)
    return attend_tiled(kernels, threads, how, q, source, out);
  return Direct(kernels, threads, how, q, out).run(source);
}

}  // namespace moedge
