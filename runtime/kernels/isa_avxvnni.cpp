// AVX-VNNI, the 256-bit form of VNNI on CPUs without AVX-512.

#include "avx2.inc"

namespace moedge {
namespace {

struct Isa : Vectors {
  static constexpr int TOGETHER = 4, BIAS = 0;
  template <Kind K, int FIRST, int LAST>
  static Ints dot(Ints sum, const Codes& codes, const uint8_t* q) {
    for (int g = FIRST; g < LAST; g++) sum = _mm256_dpbusd_avx_epi32(sum, codes.quads[g], four(q + 4 * g));
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

extern const Kernels AVXVNNI = {"avxvnni", Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  nullptr,
                                nullptr,   activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
