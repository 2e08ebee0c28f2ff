// NEON with dot product, which CPUs of ARMv8.2 and later have.

#include "neon.inc"

namespace moedge {
namespace {

struct Isa : DotVectors {
  static constexpr int TOGETHER = 8;
  template <Kind K, int M>
  static void dots(Ints* sums, const Codes& codes, const int32_t* zeros, const uint8_t* minus, const uint8_t* q) {
    const int16x4_t z = zero_points(zeros);
    for (int m = 0; m < M; m++) sums[m] = dot<K, 0, QUADS>(begin(z, minus + 4 * m), codes, q + COLUMNS * m);
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

extern const Kernels DOTPROD = {"dotprod", Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  nullptr,
                                nullptr,   activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
