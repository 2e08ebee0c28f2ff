// What an instruction set gives: the inner loops that operators are made of. All give the same bits.
//
// Integers are exact, and each fp32 operation stands in one order, so that neither the instruction set, the number of
// threads nor what else is in a batch changes a result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tiles.h"

namespace moedge {

constexpr int MOST_TOGETHER = 8;  // rows of activations that one pass over weights may serve

// Rows of activations are multiplied `together`, 1 to MOST_TOGETHER of them. For each subblock there are, one after the
// other: int8 values [together][32], fp32 scales [together], and two int16 each: minus the sums of 16 values.
constexpr int64_t PER_ROW = COLUMNS + 4 + 4;  // bytes of a subblock

// `shifted`: the int8 values have 128 added and are unsigned, as some instruction sets multiply them in fewer steps.
struct Activations {
  const uint8_t* bytes;
  int together;
  bool shifted;
};

// What a tile row's scales and zero points are to a kernel: fp32, and int16 twice a row.
struct Prepared {
  float* scales;     // [blocks][16]
  int32_t* zeros;    // [at least 2, blocks][16], two int16 each; without zero points those of two blocks, for all
  int32_t* offsets;  // [subblocks][16]: what shifted activations have too much; null where none will be multiplied
};

// A zero point of scalar's, which has one of the two where the block is narrow.
static inline int zero_of(const Tiles& tiles, const Prepared& prepared, int64_t block, int row) {
  const uint32_t both = (uint32_t)prepared.zeros[(tiles.format.zero_point ? block : block & 1) * ROWS + row];
  return (int)(both & 0xffffu ? both & 0xffffu : both >> 16);
}

enum class Gate { swiglu, geglu_tanh, geglu_erf, relu2, silu };  // the last two have no second matrix

struct Activation {
  Gate gate;
  float alpha, beta, limit;  // limit 0: none
  bool gated() const { return gate != Gate::relu2 && gate != Gate::silu; }
};

struct Kernels {
  const char* name;
  int together;  // rows of activations that are best multiplied at once
  bool shifts;   // whether many rows are multiplied faster when they are shifted
  // Rounds columns of x to int8 for `subblocks`, what is beyond them being 0: a row that stands alone.
  void (*quantize)(const float* x, int64_t columns, int64_t subblocks, uint8_t* row);
  // Reads scales and zero points of a tile row.
  void (*prepare)(const Tiles& tiles, const uint8_t* record, const Prepared& out);
  // out [together][16], rows `stride` apart: the tile row times each row of activations. `next` is the record that is
  // read after this one, which is fetched meanwhile; null where both are near already.
  void (*multiply)(const Tiles& tiles, const uint8_t* record, const uint8_t* next, const Prepared& prepared,
                   const Activations& x, float* out, int64_t stride);
  // gate [n] becomes the experts' inner value of gate and up [n]; up is not read without a second matrix.
  void (*activate)(const Activation& how, float* gate, const float* up, int64_t n);
  // sums [m][16] + weights [m] * x [m][16], for each of `count` rows m, whose sums are anywhere.
  void (*accumulate)(float* const* sums, const float* weights, const float* x, int count);
};

extern const Kernels SCALAR;
#if defined(__x86_64__)
extern const Kernels AVX2, AVX512VNNI;
#ifndef MOEDGE_WITHOUT_AVXVNNI
extern const Kernels AVXVNNI;
#endif
#elif defined(__aarch64__)
extern const Kernels NEON, DOTPROD;
#ifndef MOEDGE_WITHOUT_I8MM
extern const Kernels I8MM;
#endif
#endif

// The instruction sets that this CPU has, the best one last; the scalar one is always there.
const Kernels* const* usable_kernels(size_t* count);
// The best one, or the one that the environment variable MOEDGE_ISA names; null if that one is not here.
const Kernels* chosen_kernels();

}  // namespace moedge
