// NEON without dot product: products are added in 16 bits, as many as these hold, before pairs of them are in 32.

#include "neon.inc"

namespace moedge {
namespace {

struct Isa : Vectors {
  static constexpr int TOGETHER = 4;
  struct Ints {
    int32x4_t low, high;
  };  // two sums of each row: of two rows, and of the other two

  // Products that 16 bits hold: a code is at most 15, 24, 31, 63 or -128, and a value 127.
  static constexpr int held(Kind kind) { return kind == Kind::six ? 4 : kind == Kind::eight ? 2 : 8; }
  static Floats to_floats(Ints x) { return vcvtq_f32_s32(vpaddq_s32(x.low, x.high)); }
  static Ints begin(const int32_t* zeros, const uint8_t* minus) {
    const int16x8_t z = pairs(zeros), m = both(minus);
    return {vmull_s16(vget_low_s16(z), vget_low_s16(m)), vmull_high_s16(z, m)};
  }
  template <Kind K, int FIRST, int LAST>
  static Ints dot(Ints sum, const Codes& codes, const uint8_t* q) {
    constexpr int HELD = held(K) < LAST - FIRST ? held(K) : LAST - FIRST;
    int8x16_t fours[QUADS];  // four columns, for each of four rows
    for (int g = FIRST; g < LAST; g += 4) {
      const int32x4_t x = vreinterpretq_s32_s8(activations(q + 4 * g));
      fours[g] = vreinterpretq_s8_s32(vdupq_laneq_s32(x, 0));
      fours[g + 1] = vreinterpretq_s8_s32(vdupq_laneq_s32(x, 1));
      fours[g + 2] = vreinterpretq_s8_s32(vdupq_laneq_s32(x, 2));
      fours[g + 3] = vreinterpretq_s8_s32(vdupq_laneq_s32(x, 3));
    }
#pragma GCC unroll 8
    for (int g = FIRST; g < LAST; g += HELD) {
      int16x8_t low = vmull_s8(vget_low_s8(codes.quads[g]), vget_low_s8(fours[g]));
      int16x8_t high = vmull_high_s8(codes.quads[g], fours[g]);
#pragma GCC unroll 8
      for (int i = g + 1; i < g + HELD; i++) {
        low = vmlal_s8(low, vget_low_s8(codes.quads[i]), vget_low_s8(fours[i]));
        high = vmlal_high_s8(high, codes.quads[i], fours[i]);
      }
      sum = {vpadalq_s16(sum.low, low), vpadalq_s16(sum.high, high)};
    }
    return sum;
  }
  template <Kind K, int M>
  static void dots(Ints* sums, const Codes& codes, const int32_t* zeros, const uint8_t* minus, const uint8_t* q) {
    for (int m = 0; m < M; m++) sums[m] = dot<K, 0, QUADS>(begin(zeros, minus + 4 * m), codes, q + COLUMNS * m);
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

extern const Kernels NEON = {"neon",  Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  nullptr,
                             nullptr, activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
