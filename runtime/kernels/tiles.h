// The layout of weights: tile rows, records of 16 rows of a matrix each. docs/kernels.md has the formula.
//
// It knows where the sections of a record lie. What is in them is for `shared.inc` and the instruction sets.
#pragma once

#include <cstdint>

namespace moedge {

constexpr int LAYOUT = 1;
constexpr int ROWS = 16;     // of a tile row
constexpr int COLUMNS = 32;  // of a subblock: what activations share a scale over
constexpr int QUADS = 8;     // of four columns each, in a subblock

enum class Scales { float32, float16, bfloat16, float8, float8e8m0 };  // float8: e4m3, times a factor of the row
enum class Kind { four, floats, five, six, eight };                    // of codes; floats: E2M1

struct Format {
  Kind kind;
  int block;  // 16, 32, 64 or 128
  bool zero_point;
  Scales scales;
};

static inline int middle_of(Kind kind) {  // the zero point of codes without one
  switch (kind) {
    case Kind::four: return 8;
    case Kind::floats: return 12;  // of codes as `shared.inc` looks them up: twice the number, and 12
    case Kind::five: return 16;
    case Kind::six: return 32;
    case Kind::eight: return 128;
  }
  return 0;
}

// Bytes of a subblock's codes: lower ones first, then what those of 5 and 6 bits have more.
constexpr int64_t LOWER = 256;
static constexpr int64_t subblock_bytes(Kind kind) {
  return kind == Kind::eight ? 2 * LOWER : LOWER + (kind == Kind::five ? 64 : kind == Kind::six ? 128 : 0);
}

// A matrix [rows, columns] as tile rows.
struct Tiles {
  Format format;
  int64_t rows, columns;
  int64_t count;                         // of tile rows
  int64_t subblocks;                     // of a tile row
  int64_t blocks;                        // of a row of weights
  int64_t zeros, factors, codes, bytes;  // where the sections of a record begin, and its length

  Tiles() = default;
  Tiles(Format how, int64_t n, int64_t k) : format(how), rows(n), columns(k) {
    count = (n + ROWS - 1) / ROWS;
    subblocks = (k + COLUMNS - 1) / COLUMNS;
    blocks = subblocks * COLUMNS / how.block;
    zeros = blocks * ROWS * scale_bytes();
    factors = zeros + (how.zero_point ? blocks * (how.kind == Kind::four ? 8 : ROWS) : 0);
    codes = (factors + (has_factors() ? 4 * ROWS : 0) + 63) / 64 * 64;
    bytes = codes + subblocks * subblock_bytes(how.kind);
  }

  bool has_factors() const { return format.scales == Scales::float8; }
  int scale_bytes() const {
    switch (format.scales) {
      case Scales::float32: return 4;
      case Scales::float16:
      case Scales::bfloat16: return 2;
      default: return 1;
    }
  }
};

// Twice the numbers of E2M1, and 12: what codes of floats are looked up as.
constexpr uint8_t TWICE[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// The code of a row of a record, at `column` of subblock s.
static inline int code_at(const Tiles& tiles, const uint8_t* record, int64_t s, int column, int row) {
  const int quad = column / 4, j = column % 4;
  const uint8_t* at = record + tiles.codes + s * subblock_bytes(tiles.format.kind);
  if (tiles.format.kind == Kind::eight) return at[(quad * ROWS + row) * 4 + j];
  const uint8_t pair = at[(quad / 2 * ROWS + row) * 4 + j];
  const int low = quad % 2 ? pair >> 4 : pair & 15;
  const uint8_t* upper = at + LOWER;
  if (tiles.format.kind == Kind::floats) return TWICE[low];
  if (tiles.format.kind == Kind::five) return low | (upper[row * 4 + j] >> quad & 1) << 4;
  if (tiles.format.kind == Kind::six) return low | (upper[(quad / 4 * ROWS + row) * 4 + j] >> 2 * (quad % 4) & 3) << 4;
  return low;
}

}  // namespace moedge
