// NEON with products of matrices: `smmla` multiplies eight columns of two rows of weights with two of activations.

#include "neon.inc"

namespace moedge {
namespace {

struct Isa : DotVectors {
  static constexpr int TOGETHER = 8;
  template <Kind K, int M>
  static void dots(Ints* sums, const Codes& codes, const int32_t* zeros, const uint8_t* minus, const uint8_t* q) {
    const int16x4_t z = zero_points(zeros);
    if constexpr (M % 2) sums[M - 1] = dot<K, 0, QUADS>(begin(z, minus + 4 * (M - 1)), codes, q + COLUMNS * (M - 1));
    if constexpr (M > 1) {
      int8x16_t first[4], last[4];  // eight columns of the first two rows, and of the last two
      for (int i = 0; i < 4; i++) {
        const int32x4_t even = vreinterpretq_s32_s8(codes.quads[2 * i]);
        const int32x4_t odd = vreinterpretq_s32_s8(codes.quads[2 * i + 1]);
        first[i] = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
        last[i] = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
      }
      for (int m = 0; m + 1 < M; m += 2) pair(sums + m, first, last, z, minus + 4 * m, q + COLUMNS * m);
    }
  }
  static void pair(Ints* sums, const int8x16_t* first, const int8x16_t* last, int16x4_t zero_points,
                   const uint8_t* minus, const uint8_t* q) {
    int32x4_t left = vdupq_n_s32(0), right = left;  // two rows of activations times two of weights
    for (int i = 0; i < 4; i += 2, q += 16) {
      const int64x2_t a = vreinterpretq_s64_s8(activations(q)), b = vreinterpretq_s64_s8(activations(q + COLUMNS));
      const int8x16_t low = vreinterpretq_s8_s64(vzip1q_s64(a, b)), high = vreinterpretq_s8_s64(vzip2q_s64(a, b));
      left = vmmlaq_s32(vmmlaq_s32(left, low, first[i]), high, first[i + 1]);
      right = vmmlaq_s32(vmmlaq_s32(right, low, last[i]), high, last[i + 1]);
    }
    const int64x2_t l = vreinterpretq_s64_s32(left), r = vreinterpretq_s64_s32(right);
    sums[0] = vaddq_s32(begin(zero_points, minus), vreinterpretq_s32_s64(vzip1q_s64(l, r)));
    sums[1] = vaddq_s32(begin(zero_points, minus + 4), vreinterpretq_s32_s64(vzip2q_s64(l, r)));
  }
};

#include "numbers.inc"
#include "shared.inc"
#include "multiply.inc"
#include "multiply_signed.inc"
#include "attend.inc"
#include "rows.inc"
#include "tile_attend.inc"
#include "mixers.inc"
#include "recurrent.inc"
#include "sampling.inc"

}  // namespace

extern const Kernels I8MM = {"i8mm",  Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  nullptr,
                             nullptr, activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
