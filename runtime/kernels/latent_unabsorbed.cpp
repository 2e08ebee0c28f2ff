// Keys and values of some hundreds of tokens at a time are made of their latent rows, by the ordinary product.

#include "latent_parts.h"
#include "linear.h"

namespace moedge {
namespace {

constexpr int64_t RUN_BYTES = 8 << 20;  // of keys and values, about
constexpr int64_t JOB_TOKENS = 32;

class Expanded final : public KeySource {
 public:
  Expanded(const LatentCall& call, const LatentPart& part) : call_(call), l_(call.latent), rows_(part.rows) {
    const int64_t total = part.past + part.tokens, a_token = l_.heads * (l_.key() + l_.v) * 4;
    const int64_t most = RUN_BYTES / a_token > total ? total : RUN_BYTES / a_token;
    longest = (most < RUN ? RUN : most) / RUN * RUN;
  }

  bool begin(Scratch& memory) {
    if (!memory.begin(longest * (l_.heads * (l_.key() + l_.v) + l_.rank) * 4)) return false;
    latents_ = memory.take<float>(longest * l_.rank);
    keys_ = memory.take<float>(l_.heads * longest * l_.key());
    values_ = memory.take<float>(l_.heads * longest * l_.v);
    return true;
  }

  bool fetch(int64_t first, int64_t count, CacheRows* keys, CacheRows* values) override {
    std::atomic<bool> enough{true};
    call_.threads.each((count + JOB_TOKENS - 1) / JOB_TOKENS, [&](size_t job) {
      thread_local Scratch own;
      if (!own.begin(padded(l_.width()) * 4)) {
        enough = false;
        return;
      }
      float* row = own.take<float>(padded(l_.width()));
      const int64_t begin = (int64_t)job * JOB_TOKENS, end = begin + JOB_TOKENS < count ? begin + JOB_TOKENS : count;
      for (int64_t t = begin; t < end; t++) {
        call_.kernels.attention.load(rows_.begin + (first + t) * rows_.row_bytes, rows_, l_.width(), row);
        memcpy(latents_ + t * l_.rank, row, l_.rank * 4);
        for (int64_t h = 0; h < l_.heads; h++)
          memcpy(keys_ + (h * longest + t) * l_.key() + l_.nope, row + l_.rank, l_.rope * 4);
      }
    });
    if (!enough) return false;
    const Places places{[](const void* self, int64_t row) { return static_cast<const Expanded*>(self)->place(row); },
                        this};
    if (!multiply_matrix(call_.kernels, call_.threads, l_.up, call_.weights.tiles, latents_, count, l_.exact ? 3 : 1,
                         places))
      return false;
    *keys = told(keys_, l_.key()), *values = told(values_, l_.v);
    return true;
  }

 private:
  Column place(int64_t row) const {
    const int64_t h = row / (l_.nope + l_.v), i = row % (l_.nope + l_.v);
    if (i < l_.nope) return {keys_ + h * longest * l_.key() + i, l_.key()};
    return {values_ + h * longest * l_.v + i - l_.nope, l_.v};
  }
  CacheRows told(const float* rows, int64_t width) const {
    return {reinterpret_cast<const uint8_t*>(rows), longest * width * 4, width * 4, width, RowType::float32};
  }

  const LatentCall& call_;
  const Latent& l_;
  const CacheRows& rows_;
  float* latents_;  // [longest, rank]
  float* keys_;     // [heads, longest, nope + rope]
  float* values_;   // [heads, longest, v]
};

}  // namespace

bool attend_unabsorbed(const LatentCall& call, const LatentPart& part, const float* q, float* out) {
  const Latent& l = call.latent;
  thread_local Scratch memory;
  Expanded source(call, part);
  if (!source.begin(memory)) return false;
  const Attend how{l.heads, l.heads, l.key(), l.v, part.tokens, part.past, 0, nullptr, l.exact};
  return attend(call.kernels, call.threads, how, q, source, out);
}

}  // namespace moedge
