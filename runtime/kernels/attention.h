// Grouped-query attention of a layer: from its joined projection to the heads' results, with its rows in a cache.
#pragma once

#include "attend.h"

namespace moedge {

enum class Norm { none, head, whole };  // of queries and keys: of each head alone, or of all heads together

struct Attention {
  int64_t heads, kv_heads, dim;
  int64_t rotary;       // dimensions that are rotated, the first ones of a head
  int64_t window;       // positions that a token sees, its own included; 0: all
  int64_t switches_at;  // 0, or the length from which on a timeline takes rows of the tables so much further down
  Norm norm;
  float scale, eps, clip;  // clip 0: none
  bool exact;              // fp32, however many tokens
  bool key_is_value;       // values are keys as they come, and have no part of the projection
  bool value_norm;         // each head of a value is divided by its root mean square

  int64_t columns() const { return (heads + (key_is_value ? 1 : 2) * kv_heads) * dim; }
};

// What its tokens need beside their projections.
struct Tables {
  const float *cos, *sin;        // [rows, rotary / 2]
  int64_t rows;                  // of the tables
  const float *q_norm, *k_norm;  // [dim], or [heads * dim] and [kv_heads * dim]
  const float* sinks;            // [heads], or null
};

struct Segment {
  int64_t slot, past, count;  // `count` tokens of the timeline in a slot, which has `past` tokens
};

// keys and values [slots, kv_heads, capacity, row_bytes].
struct Cache {
  uint8_t *keys, *values;
  int64_t slots, capacity, row_bytes;
  RowType type;
};

// What is wrong with the segments of `tokens` tokens; null: nothing.
const char* check_segments(const Segment* segments, int64_t count, int64_t tokens, int64_t slots, int64_t capacity);

// Why the tables have not all rows that these segments take; null: they have.
const char* check_tables(const Segment* segments, int64_t count, int64_t rows, int64_t switches_at);

// joined [tokens, columns], out [tokens, heads * dim]; writes rows of keys and values of all tokens into the cache. The
// segments are checked. False if there is not enough memory.
bool run_attention(const Kernels& kernels, const Threads& threads, const Attention& attention, const float* joined,
                   const Segment* segments, int64_t count, const Tables& tables, const Cache& cache, float* out);

}  // namespace moedge
