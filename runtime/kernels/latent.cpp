// Rows are normed, rotated and written; then each timeline takes the form of attention that costs it less.

#include "latent.h"

#include "latent_parts.h"

namespace moedge {
namespace {

constexpr int64_t JOB_TOKENS = 8;         // whose rows one job makes
constexpr int64_t PIECE_BYTES = 6 << 20;  // of queries and results in the absorbed form, about

// Products of the two forms; those of fp32 take about four times as long as those of int8.
bool absorbs(const Latent& l, const Segment& s, bool plain) {
  if (plain) return true;                   // kv_b of fp32 is not multiplied with whole prompts
  if (s.count < TILED_TOKENS) return true;  // so few tokens are the same bits however many of them come at once
  const double pairs = (double)s.count * ((double)s.past + (double)(s.count + 1) / 2) * (double)l.heads;
  const double planes = l.exact ? 3 : 1, slow = l.exact ? 4 : 1;
  const double absorbed = pairs * slow * (double)(l.width() + l.rank) +
                          (double)s.count * (double)(l.heads * l.rank) * (4 * (double)l.nope + planes * (double)l.v);
  const double expanded =
      pairs * slow * (double)(l.key() + l.v) + (double)(s.past + s.count) * planes * (double)l.rows() * (double)l.rank;
  return absorbed <= expanded;
}

void make_row(const AttentionKernels& kernels, const Latent& l, const float* given, const float* norm, const float* cos,
              const float* sin, RowType type, float* room, uint8_t* row) {
  memcpy(room, given, l.width() * 4);
  kernels.normalize(room, norm, l.rank, l.eps);
  kernels.rotate(room + l.rank, cos, sin, l.rope / 2);
  kernels.store(room, l.width(), type, row);
}

// Goes through the tokens in their order. Those that are absorbed wait until they are a piece, so that kv_b is read
// once for several timelines and memory does not grow with a prompt.
class Pieces {
 public:
  Pieces(const LatentCall& call, const float* q, float* out) : call_(call), q_(q), out_(out) {
    const Latent& l = call.latent;
    const int64_t a_token = l.heads * (l.width() + l.rank) * 4;
    piece_ = PIECE_BYTES / a_token > TILED_TOKENS ? PIECE_BYTES / a_token : TILED_TOKENS;
  }
  bool absorb(LatentPart part) {
    if (part.tokens > piece_ - waiting_ && !flush()) return false;  // where a timeline is cut is its own
    for (const int64_t end = part.past + part.tokens; part.past < end; part.past += part.tokens) {
      part.tokens = end - part.past < piece_ - waiting_ ? end - part.past : piece_ - waiting_;
      parts_[count_++] = part;
      waiting_ += part.tokens;
      if ((waiting_ == piece_ || count_ == MOST_PARTS) && !flush()) return false;
    }
    return true;
  }
  bool expand(const LatentPart& part) {
    if (!flush() || !attend_unabsorbed(call_, part, q_, out_)) return false;
    advance(part.tokens);
    return true;
  }
  bool flush() {
    if (waiting_ && !attend_absorbed(call_, parts_, count_, q_, out_)) return false;
    advance(waiting_);
    waiting_ = count_ = 0;
    return true;
  }

 private:
  void advance(int64_t tokens) {
    q_ += tokens * call_.latent.heads * call_.latent.key();
    out_ += tokens * call_.latent.heads * call_.latent.v;
  }
  static constexpr int64_t MOST_PARTS = 64;
  const LatentCall& call_;
  const float* q_;
  float* out_;
  LatentPart parts_[MOST_PARTS];
  int64_t piece_, count_ = 0, waiting_ = 0;  // tokens; parts and their tokens
};

}  // namespace

bool run_latent(const Kernels& kernels, const Threads& threads, const Latent& l, const float* q, const float* rows,
                const Segment* segments, int64_t count, const Tables& tables, const LatentWeights& weights,
                const LatentCache& cache, float* out) {
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; i++) tokens += segments[i].count;
  const int64_t half = l.rope / 2, a_token = l.heads * l.key();
  thread_local Scratch call;
  if (!call.begin(tokens * a_token * 4)) return false;
  float* turned = call.take<float>(tokens * a_token);
  std::atomic<bool> enough{true};
  threads.each((tokens + JOB_TOKENS - 1) / JOB_TOKENS, [&](size_t job) {
    thread_local Scratch own;
    if (!own.begin(l.width() * 4)) {
      enough = false;
      return;
    }
    float* room = own.take<float>(l.width());
    const int64_t first = (int64_t)job * JOB_TOKENS;
    const int64_t end = first + JOB_TOKENS < tokens ? first + JOB_TOKENS : tokens;
    int64_t begin = 0;  // of a segment
    for (int64_t i = 0; i < count && begin < end; begin += segments[i++].count) {
      const Segment& s = segments[i];
      const int64_t later = l.switches_at && s.past + s.count > l.switches_at ? l.switches_at : 0;
      for (int64_t t = begin > first ? begin : first; t < end && t < begin + s.count; t++) {
        const int64_t position = s.past + t - begin;
        const float *cos = tables.cos + (position + later) * half, *sin = tables.sin + (position + later) * half;
        make_row(kernels.attention, l, rows + t * l.width(), weights.norm, cos, sin, cache.type, room,
                 cache.rows + (s.slot * cache.capacity + position) * cache.row_bytes);
        float* to = turned + t * a_token;
        memcpy(to, q + t * a_token, a_token * 4);
        for (int64_t h = 0; h < l.heads; h++) kernels.attention.rotate(to + h * l.key() + l.nope, cos, sin, half);
        kernels.attention.multiply_by(to, l.scale, a_token);
      }
    }
  });
  if (!enough) return false;
  const LatentCall latent_call{kernels, threads, l, weights};
  Pieces pieces(latent_call, turned, out);
  for (int64_t i = 0; i < count; i++) {
    const Segment& s = segments[i];
    const uint8_t* first = cache.rows + s.slot * cache.capacity * cache.row_bytes;
    const LatentPart part{{first, 0, cache.row_bytes, l.width(), cache.type}, s.past, s.count, s.count};
    if (!(absorbs(l, s, weights.plain) ? pieces.absorb(part) : pieces.expand(part))) return false;
  }
  return pieces.flush();
}

}  // namespace moedge
