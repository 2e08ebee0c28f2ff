// Weights made up for tests, written by the formula of the layout, and products of them in double precision.
//
// Nothing here is read or computed by the library's own code: it shares only the names of formats with it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "experts.h"

namespace check {

using moedge::Activation;
using moedge::Format;
using moedge::Gate;
using moedge::Kind;
using moedge::Scales;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t whole(int64_t least, int64_t most) { return least + (int64_t)(engine_() % (uint64_t)(most - least + 1)); }
  bool once_in(int64_t n) { return whole(1, n) == 1; }
  double value() { return (double)(engine_() >> 11) / (1ull << 52) - 1; }  // -1 to 1
  // Values of many sizes are rarer than plain ones, and exact zeros, ties and ends of the scale are among them.
  float activation(int mode) {
    switch (mode) {
      case 0: return once_in(2) ? 3.7f : -3.7f;
      case 1: return 0;
      case 2: return (float)(value() * std::pow(10.0, (double)whole(-42, 20)));
      case 3: return once_in(40) ? 1e4f : (float)value() * 0.01f;
      case 4: return once_in(8) ? 127.0f : (float)whole(-254, 254) / 2;  // in the middle between whole numbers
      default: return (float)value();
    }
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

inline Format random_format(Random& random) {
  Format format;
  format.kind = (Kind)random.whole(0, 4);
  format.block = 16 << random.whole(0, 3);
  format.zero_point = format.kind != Kind::floats && random.once_in(2);
  format.scales = (Scales)random.whole(0, 4);
  return format;
}

inline int bits_of(Kind kind) { return kind == Kind::eight ? 8 : kind == Kind::six ? 6 : kind == Kind::five ? 5 : 4; }

// Columns that a matrix of this block may have, near `wish`: any for narrow blocks.
inline int64_t columns_near(const Format& format, int64_t wish) {
  return format.block <= 32 ? wish : (wish + format.block - 1) / format.block * format.block;
}

// A matrix [rows, columns]: its tile rows, and what its weights are.
struct Matrix {
  Format format;
  int64_t rows, columns;
  int64_t record;  // bytes of a tile row
  std::vector<uint8_t> bytes;
  std::vector<double> weights;
};

// A scale as it is stored, and its value.
inline double store_scale(Random& random, Scales type, uint8_t* at) {
  switch (type) {
    case Scales::float32: {
      const float scale = (float)(random.value() * 0.01);
      memcpy(at, &scale, 4);
      return scale;
    }
    case Scales::float16: {
      const int64_t e = random.once_in(16) ? 0 : random.whole(5, 12);
      const int64_t sign = random.whole(0, 1), m = random.whole(0, 1023);
      const uint16_t half = (uint16_t)(sign << 15 | e << 10 | m);
      memcpy(at, &half, 2);
      return (sign ? -1 : 1) * (e ? std::ldexp(1024.0 + (double)m, (int)e - 25) : std::ldexp((double)m, -24));
    }
    case Scales::bfloat16: {
      const int64_t sign = random.whole(0, 1), e = random.whole(110, 122), m = random.whole(0, 127);
      const uint16_t brain = (uint16_t)(sign << 15 | e << 7 | m);
      memcpy(at, &brain, 2);
      return (sign ? -1 : 1) * std::ldexp(128.0 + (double)m, (int)e - 134);
    }
    case Scales::float8: {
      const int64_t sign = random.whole(0, 1), e = random.whole(0, 15), m = random.whole(0, e == 15 ? 6 : 7);
      *at = (uint8_t)(sign << 7 | e << 3 | m);
      return (sign ? -1 : 1) * (e ? std::ldexp(8.0 + (double)m, (int)e - 10) : std::ldexp((double)m, -9));
    }
    case Scales::float8e8m0: {
      const int64_t e = random.once_in(50) ? random.whole(0, 1) : random.whole(115, 122);
      *at = (uint8_t)e;
      return std::ldexp(1.0, (int)e - 127);
    }
  }
  return 0;
}

inline void store_code(Kind kind, uint8_t* subblock, int column, int row, int code) {
  const int g = column / 4, j = column % 4;
  if (kind == Kind::eight) {
    subblock[(g * 16 + row) * 4 + j] = (uint8_t)code;
    return;
  }
  subblock[(column / 8 * 16 + row) * 4 + j] |= (uint8_t)((code & 15) << (column % 8 < 4 ? 0 : 4));
  uint8_t* upper = subblock + 4 * 16 * 4;
  if (kind == Kind::five) upper[row * 4 + j] |= (uint8_t)((code >> 4 & 1) << g);
  if (kind == Kind::six) upper[(g / 4 * 16 + row) * 4 + j] |= (uint8_t)((code >> 4 & 3) << 2 * (g % 4));
}

// `extreme`: codes and zero points are the least and the largest ones only, which sums of 16 bits must hold.
inline Matrix make_matrix(Random& random, Format format, int64_t rows, int64_t columns, bool extreme) {
  static const double FLOATS[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  static const int WIDTHS[5] = {4, 2, 2, 1, 1};
  const int bits = bits_of(format.kind), most = (1 << bits) - 1, width = WIDTHS[(int)format.scales];
  const int64_t subblocks = (columns + 31) / 32, blocks = subblocks * 32 / format.block;
  const bool factors = format.scales == Scales::float8;
  const int64_t zeros_at = blocks * 16 * width;
  const int64_t factors_at = zeros_at + (format.zero_point ? blocks * (bits == 4 ? 8 : 16) : 0);
  const int64_t codes_at = (factors_at + (factors ? 64 : 0) + 63) / 64 * 64;
  const int64_t a_subblock = bits == 8 ? 512 : bits == 6 ? 384 : bits == 5 ? 320 : 256;
  Matrix matrix{format, rows, columns, codes_at + subblocks * a_subblock, {}, std::vector<double>(rows * columns)};
  matrix.bytes.resize((rows + 15) / 16 * matrix.record);
  for (int64_t n = 0; n < rows; n++) {
    uint8_t* record = matrix.bytes.data() + n / 16 * matrix.record;
    const int row = (int)(n % 16);
    double factor = 1;
    if (factors) {
      const float stored = (float)(random.value() * 0.01);
      memcpy(record + factors_at + 4 * row, &stored, 4);
      factor = stored;
    }
    const int end = extreme ? (int)random.whole(0, 1) * most : -1;
    for (int64_t b = 0; b < blocks; b++) {
      const double scale = store_scale(random, format.scales, record + (b * 16 + row) * width) * factor;
      int zero = 1 << (bits - 1);
      if (format.zero_point) {
        zero = extreme ? (int)random.whole(0, 1) * most : (int)random.whole(0, most);
        if (bits == 4)
          record[zeros_at + b * 8 + row % 8] |= (uint8_t)(zero << (row < 8 ? 0 : 4));
        else
          record[zeros_at + b * 16 + row] = (uint8_t)zero;
      }
      for (int64_t k = b * format.block; k < (b + 1) * format.block && k < columns; k++) {
        const int code = !extreme ? (int)random.whole(0, most) : random.once_in(10) ? most - end : end;
        store_code(format.kind, record + codes_at + k / 32 * a_subblock, (int)(k % 32), row, code);
        const double number = format.kind == Kind::floats ? (code & 8 ? -1 : 1) * FLOATS[code & 7] : code - zero;
        matrix.weights[n * columns + k] = number * scale;
      }
    }
  }
  return matrix;
}

// Numbers, and how far what is computed may be from them.
struct Bounded {
  std::vector<double> value, error;
};

// Rounding to int8 costs half a step of 1/127 of the largest of 32 activations; each further one leaves a 254th of
// that.
inline Bounded product(const Matrix& matrix, const Bounded& x, int planes) {
  const double step = std::pow(254.0, -planes) * (planes > 1 ? 1.02 : 1.001) + (planes > 1 ? 3e-7 : 0);
  Bounded y{std::vector<double>(matrix.rows), std::vector<double>(matrix.rows)};
  for (int64_t first = 0; first < matrix.columns; first += 32) {
    const int64_t end = std::min(first + 32, matrix.columns);
    double most = 0;
    for (int64_t k = first; k < end; k++) most = std::max(most, std::fabs(x.value[k]) + x.error[k]);
    for (int64_t n = 0; n < matrix.rows; n++)
      for (int64_t k = first; k < end; k++) {
        const double w = matrix.weights[n * matrix.columns + k], size = std::fabs(w);
        y.value[n] += w * x.value[k];
        y.error[n] += size * (x.error[k] + step * most + 4e-6 * (std::fabs(x.value[k]) + x.error[k]) + 1e-35);
      }
  }
  for (double& error : y.error) error += 1e-37;
  return y;
}

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

inline double activation(const Activation& how, double g, double u) {
  switch (how.gate) {
    case Gate::swiglu:
      if (how.limit > 0) g = std::min<double>(g, how.limit), u = std::clamp<double>(u, -how.limit, how.limit);
      return g * logistic(how.alpha * g) * (u + how.beta);
    case Gate::geglu_tanh: return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * u;
    case Gate::geglu_erf: return 0.5 * g * (1 + std::erf(g / std::sqrt(2.0))) * u;
    case Gate::relu2: return g > 0 ? g * g : 0;
    case Gate::silu: return g * logistic(how.alpha * g);
  }
  return 0;
}

inline void activate(const Activation& how, double g, double g_error, double u, double u_error, double& h,
                     double& error) {
  h = activation(how, g, u);
  error = 0;
  for (const double side : {-1.0, 0.0, 1.0})
    for (const double other : {-1.0, 0.0, 1.0})
      error = std::max(error, std::fabs(activation(how, g + side * g_error, u + other * u_error) - h));
  error = 1.5 * error + 3e-6 * (1 + std::fabs(g)) * (1 + std::fabs(u) + std::fabs(how.beta)) + 3e-6 * std::fabs(h);
}

}  // namespace check
