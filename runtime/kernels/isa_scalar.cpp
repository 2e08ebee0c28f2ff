// Plain C++ for any CPU: what all other instruction sets are compared with, and the formula to read.

#include "kernels.h"

namespace moedge {
namespace {

#include "numbers.inc"
#include "plain.inc"

struct Isa : Plain {
  static constexpr int BIAS = 0;
};

#include "shared.inc"

void multiply(const Tiles& tiles, const uint8_t* record, const uint8_t*, const Prepared& prepared, const Activations& x,
              float* out, int64_t stride) {
  const int m_count = x.together, block = tiles.format.block;
  const int per_block = block < COLUMNS ? 1 : block / COLUMNS, per_subblock = block < COLUMNS ? 2 : 1;
  const int span = COLUMNS / per_subblock;
  for (int m = 0; m < m_count; m++)
    for (int row = 0; row < ROWS; row++) {
      float sum = 0, inner = 0;
      for (int64_t s = 0; s < tiles.subblocks; s++) {
        const uint8_t* at = x.bytes + s * m_count * PER_ROW;
        const int8_t* q = reinterpret_cast<const int8_t*>(at) + m * COLUMNS;
        float scale;
        __builtin_memcpy(&scale, at + m_count * COLUMNS + 4 * m, 4);
        for (int part = 0; part < per_subblock; part++) {
          const int64_t b = per_subblock == 2 ? 2 * s + part : s / per_block;
          const int zero = zero_of(tiles, prepared, b, row);
          int32_t whole = 0;
          for (int c = part * span; c < (part + 1) * span; c++)
            whole += (code_at(tiles, record, s, c, row) - zero) * q[c];
          inner = s % per_block ? fma32((float)whole, scale, inner) : (float)whole * scale;
          if (s % per_block == per_block - 1) sum = fma32(inner, prepared.scales[b * ROWS + row], sum);
        }
      }
      out[m * stride + row] = sum;
    }
  if (!tiles.has_factors()) return;
  float factors[ROWS];
  __builtin_memcpy(factors, record + tiles.factors, sizeof factors);
  for (int m = 0; m < m_count; m++)
    for (int row = 0; row < ROWS; row++) out[m * stride + row] *= factors[row];
}

void multiply_records(const Tiles& tiles, const uint8_t* record, int64_t stride, int64_t count, int64_t first,
                      bool raised, int32_t*, const Activations& x, float* out, int64_t out_stride) {
  Tiles part = tiles;
  part.codes += first * subblock_bytes(Kind::eight);
  for (int64_t i = 0; i < count; i++, record += stride, out += ROWS)
    for (int m = 0; m < x.together; m++)
      for (int row = 0; row < ROWS; row++) {
        float sum = 0;
        for (int64_t s = 0; s < tiles.subblocks; s++) {
          const uint8_t* at = x.bytes + s * x.together * PER_ROW;
          const int8_t* q = reinterpret_cast<const int8_t*>(at) + m * COLUMNS;
          float scale, weight;
          __builtin_memcpy(&scale, at + x.together * COLUMNS + 4 * m, 4);
          __builtin_memcpy(&weight, record + ((first + s) * ROWS + row) * 4, 4);
          int32_t whole = 0;
          for (int c = 0; c < COLUMNS; c++)
            whole += (code_at(part, record, s, c, row) - 128) * (q[c] + (raised ? HALF : 0));
          sum = fma32((float)whole * scale, weight, sum);
        }
        out[m * out_stride + row] = sum;
      }
}

#include "attend.inc"
#include "rows.inc"
#include "tile_attend.inc"
#include "mixers.inc"
#include "recurrent.inc"
#include "sampling.inc"

}  // namespace

extern const Kernels SCALAR = {"scalar", MOST_TOGETHER, false,      quantize,  prepare_blocks, multiply,  nullptr,
                               nullptr,  activate,      accumulate, ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
