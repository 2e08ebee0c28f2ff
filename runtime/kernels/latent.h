// Multi-head latent attention of a layer: from queries and a token's latent row to the heads' results.
//
// Keys and values of all heads are products of kv_b with one latent row of a token, and only that row is in the cache.
// Few tokens carry their queries to the latent rows (absorbed), many have keys and values made of these (unabsorbed).
#pragma once

#include "attention.h"

namespace moedge {

struct Latent {
  int64_t heads, nope, rope, v, rank;  // numbers of a head's key that are not rotated, and that are; of its value
  int64_t switches_at;                 // as in `Attention`
  float scale, eps;
  bool exact;  // fp32, however many tokens
  Tiles up{};  // of kv_b [heads * (nope + v), rank]: the keys' rows of a head, then its values'

  int64_t key() const { return nope + rope; }
  int64_t width() const { return rank + rope; }  // of a row in the cache
  int64_t rows() const { return heads * (nope + v); }
};

struct LatentWeights {
  const uint8_t* tiles;  // null if they are plain
  const float* plain;    // [heads * (nope + v), rank]
  const float* norm;     // [rank]
};

// rows [slots, 1, capacity, row_bytes]: the latent row, normed, then what is rotated.
struct LatentCache {
  uint8_t* rows;
  int64_t slots, capacity, row_bytes;
  RowType type;
};

// q [tokens, heads * (nope + rope)], rows [tokens, rank + rope], neither normed nor rotated; out [tokens, heads * v].
// Writes rows of all tokens into the cache. The segments are checked; of `tables` only the rotation is read. False if
// there is not enough memory.
bool run_latent(const Kernels& kernels, const Threads& threads, const Latent& latent, const float* q, const float* rows,
                const Segment* segments, int64_t count, const Tables& tables, const LatentWeights& weights,
                const LatentCache& cache, float* out);

}  // namespace moedge
