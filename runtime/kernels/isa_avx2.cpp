// AVX2 without VNNI: `vpmaddubsw` adds two products in 16 bits, and as many of those sums as these hold are added
// there.

#include "avx2.inc"

namespace moedge {
namespace {

struct Isa : Vectors {
  static constexpr int TOGETHER = 4,
                       BIAS = 128;  // codes of 8 bits are taken as signed: two products of unsigned ones exceed 16 bits
  // Sums of two products that 16 bits hold: a code is at most 15, 24, 31, 63, and a value 127.
  static constexpr int held(Kind kind) {
    return kind == Kind::four ? 8 : kind == Kind::six ? 2 : kind == Kind::eight ? 1 : 4;
  }
  template <Kind K, int FIRST, int LAST>
  static Ints dot(Ints sum, const Codes& codes, const uint8_t* q) {
    constexpr int HELD = held(K);
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int g = FIRST; g < LAST; g += HELD) {
      __m256i pairs = product<K>(codes.quads[g], four(q + 4 * g));
#pragma GCC unroll 8
      for (int i = 1; i < (HELD < LAST - FIRST ? HELD : LAST - FIRST); i++)
        pairs = _mm256_add_epi16(pairs, product<K>(codes.quads[g + i], four(q + 4 * (g + i))));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
  }
  template <Kind K>
  static __m256i product(__m256i codes, __m256i q) {
    if constexpr (K != Kind::eight) return _mm256_maddubs_epi16(codes, q);
    const __m256i value = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(q, value));
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

extern const Kernels AVX2 = {"avx2",  Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  nullptr,
                             nullptr, activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
