// AVX-512 with VNNI: all 16 rows of a tile in one vector, `vpdpbusd` for four columns of each.

#include <immintrin.h>

#include "kernels.h"

namespace moedge {
namespace {

struct Isa {
  static constexpr int ROWS = 16, TOGETHER = 8, BIAS = 0;
  static constexpr bool SHIFTS = true;
  using Ints = __m512i;
  using Floats = __m512;
  struct Codes {
    __m512i quads[QUADS];
  };

  static void halves_to_floats(const uint8_t* from, float* to, int64_t n) {
    for (int64_t i = 0; i < n; i += 16)
      _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * i))));
  }
  static int32_t largest(const float* x) {
    const __m512i size = _mm512_set1_epi32(0x7fffffff);
    return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_si512(size, at(x)), _mm512_and_si512(size, at(x + 16))));
  }
  static void round(const float* x, float inverse, int8_t* q, int32_t* sums) {
    for (int half = 0; half < 2; half++) {
      __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * half), _mm512_set1_ps(inverse));
      v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-127.0f)), _mm512_set1_ps(127.0f));
      const __m512i whole = _mm512_cvtps_epi32(v);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(q + 16 * half), _mm512_cvtepi32_epi8(whole));
      sums[half] = _mm512_reduce_add_epi32(whole);
    }
  }
  static void spread_nibbles(const uint8_t* bytes, int32_t where, int32_t* to) {
    const __m128i pairs = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
    const __m128i both = _mm_and_si128(_mm_unpacklo_epi64(pairs, _mm_srli_epi16(pairs, 4)), _mm_set1_epi8(15));
    _mm512_storeu_si512(to, _mm512_mullo_epi32(_mm512_cvtepu8_epi32(both), _mm512_set1_epi32(where)));
  }
  static __m512i at(const void* p) { return _mm512_loadu_si512(p); }
  template <Kind K>
  static Codes unpack(const uint8_t* lower, int) {
    Codes c;
    const uint8_t* upper = lower + LOWER;
    if constexpr (K == Kind::eight) {
      for (int g = 0; g < QUADS; g++) c.quads[g] = at(lower + 64 * g);
      return c;
    }
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; i++) {
      const __m512i pair = at(lower + 64 * i);
      c.quads[2 * i] = _mm512_and_si512(pair, low);
      c.quads[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
    }
    if constexpr (K == Kind::floats) {
      const __m512i twice =
          _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
      for (int g = 0; g < QUADS; g++) c.quads[g] = _mm512_shuffle_epi8(twice, c.quads[g]);
    }
    if constexpr (K == Kind::five) {
      const __m512i bits = at(upper), one = _mm512_set1_epi8(16);
      for (int g = 0; g < 4; g++)
        c.quads[g] = _mm512_or_si512(c.quads[g], _mm512_and_si512(_mm512_slli_epi16(bits, 4 - g), one));
      for (int g = 4; g < 8; g++)
        c.quads[g] = _mm512_or_si512(c.quads[g], _mm512_and_si512(_mm512_srli_epi16(bits, g - 4), one));
    }
    if constexpr (K == Kind::six) {
      const __m512i both = _mm512_set1_epi8(48);
      for (int h = 0; h < 2; h++) {
        const __m512i bits = at(upper + 64 * h);
        const __m512i moved[4] = {_mm512_slli_epi16(bits, 4), _mm512_slli_epi16(bits, 2), bits,
                                  _mm512_srli_epi16(bits, 2)};
        for (int i = 0; i < 4; i++)
          c.quads[4 * h + i] = _mm512_or_si512(c.quads[4 * h + i], _mm512_and_si512(moved[i], both));
      }
    }
    return c;
  }
  static int32_t word(const void* p) {
    int32_t w;
    __builtin_memcpy(&w, p, 4);
    return w;
  }
  static Ints begin(const int32_t* zeros, const uint8_t* minus) {
    return _mm512_madd_epi16(_mm512_loadu_si512(zeros), _mm512_set1_epi32(word(minus)));
  }
  template <Kind K, int FIRST, int LAST>
  static Ints dot(Ints sum, const Codes& codes, const uint8_t* q) {
    for (int g = FIRST; g < LAST; g++)
      sum = _mm512_dpbusd_epi32(sum, codes.quads[g], _mm512_set1_epi32(word(q + 4 * g)));
    return sum;
  }
  template <Kind K, int M>
  static void dots(Ints* sums, const Codes& codes, const int32_t* zeros, const uint8_t* minus, const uint8_t* q) {
    if constexpr (M <= 2) {  // chains of their own, so that none is waited for
      for (int m = 0; m < M; m++)
        sums[m] = _mm512_add_epi32(dot<K, 0, QUADS / 2>(begin(zeros, minus + 4 * m), codes, q + COLUMNS * m),
                                   dot<K, QUADS / 2, QUADS>(_mm512_setzero_si512(), codes, q + COLUMNS * m));
      return;
    }
    for (int m = 0; m < M; m++) sums[m] = begin(zeros, minus + 4 * m);
#pragma GCC unroll 8
    for (int g = 0; g < QUADS; g++)
      for (int m = 0; m < M; m++)
        sums[m] = _mm512_dpbusd_epi32(sums[m], codes.quads[g], _mm512_set1_epi32(word(q + COLUMNS * m + 4 * g)));
  }
  static Ints load_ints(const uint8_t* p) { return at(p); }
  static Ints spread_ints(const uint8_t* p) { return _mm512_set1_epi32(word(p)); }
  static Ints dot_signed(Ints sum, Ints four, Ints quads) { return _mm512_dpbusd_epi32(sum, four, quads); }
  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats load(const void* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static Floats spread(const uint8_t* p) { return _mm512_castsi512_ps(_mm512_set1_epi32(word(p))); }
  static Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static constexpr int SUMS = 16;
  static Floats every(float x) { return _mm512_set1_ps(x); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats most(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats least(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats power(Floats raised) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(raised), 23), _mm512_set1_epi32(0x3f800000)));
  }
  static Floats halves(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats bytes(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_halves(Floats x, uint8_t* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static void store_bytes(Floats x, uint8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
  }
  // Lanes 0 to 3 are the first number, and so on.
  static Floats four_times(const float* p) {
    const __m512i places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(places, _mm512_castps128_ps512(_mm_loadu_ps(p)));
  }
  // Four columns of some rows as signed bytes: codes without their zero points, of 8 bits without 128.
  template <Kind K>
  static void store_signed(const Codes& codes, int g, const uint32_t* zeros, uint8_t* to) {
    const __m512i taken = K == Kind::eight ? _mm512_xor_si512(codes.quads[g], _mm512_set1_epi8(-128))
                                           : _mm512_sub_epi8(codes.quads[g], at(zeros));
    _mm512_storeu_si512(to, taken);
  }
  template <bool MOST>
  static __m512 both(__m512 a, __m512 b) {
    return MOST ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
  }
  template <bool MOST>
  static void reduce(const Floats (*lanes)[1], float* out) {
    __m512 eight[8], four[4], two[2];
    for (int i = 0; i < 8; i++)
      eight[i] = both<MOST>(_mm512_shuffle_f32x4(lanes[i][0], lanes[i + 8][0], 0x44),
                            _mm512_shuffle_f32x4(lanes[i][0], lanes[i + 8][0], 0xee));
    for (int i = 0; i < 4; i++)  // of i, i + 8, i + 4, i + 12
      four[i] = both<MOST>(_mm512_shuffle_f32x4(eight[i], eight[i + 4], 0x88),
                           _mm512_shuffle_f32x4(eight[i], eight[i + 4], 0xdd));
    for (int i = 0; i < 2; i++)
      two[i] = both<MOST>(_mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0x88),
                          _mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0xdd));
    const __m512 one = both<MOST>(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xdd));
    _mm512_storeu_ps(out, _mm512_shuffle_f32x4(one, one, 0xd8));
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

extern const Kernels AVX512VNNI = {
    "avx512vnni",         Isa::TOGETHER, Isa::SHIFTS, quantize,  prepare_blocks, multiply,  make_signed<Isa>,
    multiply_signed<Isa>, activate,      accumulate,  ATTENTION, MIXERS,         RECURRENT, CHOICE};

}  // namespace moedge
