// Causal attention over rows of a cache: what the operators Attention and LatentAttention share.
//
// Few tokens go the direct way: fp32, rows as they lie, the same bits however a prompt is cut. Many go the tiled way:
// keys, values, queries and probabilities are int8 numbers with a scale for 32 of them, as in all other products.
#pragma once

#include "rows.h"
#include "work.h"

namespace moedge {

constexpr int64_t TILED_TOKENS = 16;  // new tokens of a timeline from which the tiled way is taken

// Where keys and values come from. Only `attend` calls it, never within jobs, so that it may use threads itself.
struct KeySource {
  int64_t longest = INT64_MAX;  // tokens of one fetch, at most; at least 256 and a multiple of that
  // Rows of tokens first ... first + count - 1 of all kv heads, which stay until the next fetch. False: no memory.
  virtual bool fetch(int64_t first, int64_t count, CacheRows* keys, CacheRows* values) = 0;

 protected:
  ~KeySource() = default;
};

struct Attend {
  int64_t heads, kv_heads, key_width, value_width;
  int64_t tokens, past, window;  // new tokens; tokens before them; how many positions are seen, 0: all
  const float* sinks;            // [heads], or null
  bool exact;                    // the direct way, however many tokens
  int64_t came = 0;              // tokens by which the way is chosen, where these are a part of them; 0: these are all
};

// q [tokens, heads, key_width], scaled and rotated; out [tokens, heads, value_width]. The source has rows of all
// past + tokens positions. False if there is not enough memory.
bool attend(const Kernels& kernels, const Threads& threads, const Attend& how, const float* q, KeySource& source,
            float* out);

}  // namespace moedge
