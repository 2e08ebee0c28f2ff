// Rows of a cache of keys and values: which types there are, and where what lies in them.
//
// A row is one token's key or value of one head. float32: its numbers. float16: the same in halves, to the nearest,
// of two the even one, beyond 65504 that. int8: codes, zeros up to a multiple of four bytes, then an fp32 scale for
// each 32 columns: value = code * scale, rounded as activations are.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace moedge {

enum class RowType { float32, float16, int8 };

static inline int64_t scales_at(int64_t width) { return (width + 3) / 4 * 4; }  // of an int8 row

static inline int64_t row_bytes_of(RowType type, int64_t width) {
  if (type == RowType::int8) return scales_at(width) + 4 * ((width + 31) / 32);
  return width * (type == RowType::float32 ? 4 : 2);
}

// The type of rows of so many bytes; false if there is none. Of widths 2, 4 and 6 some types are as long as another,
// and the first one is meant.
static inline bool find_row_type(int64_t row_bytes, int64_t width, RowType* type) {
  for (const RowType each : {RowType::float32, RowType::float16, RowType::int8})
    if (row_bytes_of(each, width) == row_bytes) return *type = each, true;
  return false;
}

// Keys or values of tokens `first`, `first + 1`, ... The row of kv head h and token t is at
// begin + h * head_bytes + (t - first) * row_bytes.
struct CacheRows {
  const uint8_t* begin;
  int64_t head_bytes, row_bytes;
  int64_t width;  // of a stored row, behind which an int8 row has its scales; a reader may use its first columns only
  RowType type;
};

}  // namespace moedge
