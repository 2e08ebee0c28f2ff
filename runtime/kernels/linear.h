// y = x Wᵀ over tile rows, and rows of such a matrix as they stand in it.
#pragma once

#include "tile_rows.h"

namespace moedge {

// Where the products of one row of a matrix go: with activation i to begin[i * stride].
struct Column {
  float* begin;
  int64_t stride;
};

// Finds it for each row of a matrix.
struct Places {
  Column (*find)(const void* self, int64_t row);
  const void* self;
};

// Activations as they are multiplied: int8 numbers of `planes` rows for each, joined in groups.
struct Joined {
  const uint8_t* bytes;
  int64_t rows;  // activations times planes
  int planes;
  bool shifted;
};

// An activation x [columns] as rows of int8 numbers that stand alone [planes][subblocks * PER_ROW], each of what those
// before it leave. `left` [columns] is room, unless there is one plane.
void round_planes(const Kernels& kernels, const Tiles& tiles, const float* x, int planes, float* left, uint8_t* rows);

// Group g of rows that stand alone, to its place in `joined`.
void join_group(const Kernels& kernels, const Tiles& tiles, const uint8_t* alone, int64_t rows, int64_t g, bool shifted,
                uint8_t* joined);

// Tile rows `from` to `to` - 1 times activations.
void multiply_tiles(const Kernels& kernels, const Tiles& tiles, const uint8_t* weights, int64_t from, int64_t to,
                    const Joined& x, TileRows& tile_rows, const Places& places);

// x [m, columns] times all rows of the matrix. An activation is so many int8 numbers (`planes`), each of what those
// before it leave: three of them are as good as fp32. False if there is not enough memory.
bool multiply_matrix(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const uint8_t* weights,
                     const float* x, int64_t m, int planes, const Places& places);

// The same to y [m, rows].
bool multiply_matrix(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const uint8_t* weights,
                     const float* x, int64_t m, int planes, float* y);

// A product and what becomes of it: y = onto + share * a(x Wᵀ + bias), where all but the product may be absent (null).
struct Linear {
  Tiles tiles;   // of all rows; of pairs, tile rows of the gate and of up in turn, each [rows, columns]
  int64_t rows;  // of y
  bool active;   // whether there is an activation
  Activation activation;
  int planes;
  const uint8_t* weights;
  const float* bias;   // [rows], or of pairs [2 rows], of gate and up in turn
  const float* share;  // [m]
  const float* onto;   // [m, rows]

  bool pairs() const { return active && activation.gated(); }
};

// x [m, columns], y [m, rows]. False if there is not enough memory.
bool run_linear(const Kernels& kernels, const Threads& threads, const Linear& linear, const float* x, int64_t m,
                float* y);

// The rows `ids` [n] of the matrix, out [n, columns]: null, or what was wrong.
const char* gather_rows(const Tiles& tiles, const uint8_t* weights, const int64_t* ids, int64_t n, float* out);

}  // namespace moedge
