// What an instruction set gives: the inner loops that operators are made of. All give the same bits.
//
// Integers are exact, and each fp32 operation stands in one order, so that neither the instruction set, the number of
// threads nor what else is in a batch changes a result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rows.h"
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
  float* scales;   // [blocks][16]
  int32_t* zeros;  // [at least 2, blocks][16], two int16 each; without zero points those of two blocks, for all
};

// Tile rows as shifted activations are multiplied with: codes without their zero points, as signed bytes.
struct Signed {
  float* scales;     // [blocks][16], of the first of them
  int32_t* offsets;  // [subblocks][16]: what shifted activations have too much
  uint8_t* codes;    // [subblocks][QUADS][16][4]
  int64_t stride;    // bytes from one tile row's to the next one's, of each of the three
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

// Scores are rows of so many fp32 numbers: of the keys of a run, and room behind them.
constexpr int64_t RUN = 256, SCORES = RUN + 16;
constexpr int64_t SPAN = 512;  // keys that are multiplied at once in tiles
constexpr int64_t LANES = 16;  // sums of a dot product in fp32: column c goes to sum c % 16

// Probabilities are whole numbers up to twice that, of which `multiply` is given so much less where it takes signed
// ones: it adds that many times the sum of a channel's numbers, which stands where zero points would.
constexpr int HALF = 127;

static inline int64_t padded(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

// What attention is made of. Rows of fp32 numbers that are given are padded to 16 columns, with zeros.
struct AttentionKernels {
  // x [n] divided by its root mean square, times weight [n], unless that is null.
  void (*normalize)(float* x, const float* weight, int64_t n, float eps);
  // Pairs x[i], x[i + half] by angles whose cosines and sines are given.
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);
  // out [n] is x held from -clip to clip, unless that is 0.
  void (*hold)(const float* x, float clip, int64_t n, float* out);
  void (*multiply_by)(float* x, float factor, int64_t n);
  // x [width] as a row of this type.
  void (*store)(const float* x, int64_t width, RowType type, uint8_t* row);
  // The first columns of a row as x [padded(columns)].
  void (*load)(const uint8_t* row, const CacheRows& rows, int64_t columns, float* x);
  // scores [rows][SCORES] = q [rows][columns] times each of `count` keys.
  void (*score)(const CacheRows& keys, int64_t count, int64_t columns, const float* q, int64_t rows, float* scores);
  // scores [n] become e^(score - most): `most`, the largest of them, and their sum.
  void (*soften)(float* scores, int64_t n, float* most, float* sum);
  // sums [rows][columns] + weights [rows][SCORES] * values.
  void (*gather)(const CacheRows& values, int64_t count, int64_t columns, const float* weights, int64_t rows,
                 float* sums);
  // out [n] = out * keep + more * take; with a `keep` of 0, out is not read.
  void (*blend)(float* out, float keep, const float* more, float take, int64_t n);
  // Scores [n] as powers of two, n a multiple of 32, become 2^(score - largest), rounded, at place m of rows that are
  // multiplied together, raised and shifted where the instruction set shifts: their sum, as they are rounded.
  float (*weigh)(float* scores, int64_t n, float largest, int m, int together, uint8_t* group);
  float (*largest)(const float* scores, int64_t n);
  // Keys from ... to - 1 of 16, times log2 e, as a record of tiles, behind which offsets for shifted activations stand:
  // bit i of the result tells that key i has what is no number.
  uint32_t (*pack_keys)(const CacheRows& keys, int64_t from, int64_t to, const Tiles& tiles, uint8_t* record);
  // Values from ... to - 1 of 32 as subblock s of records `stride` bytes apart, of 16 channels each.
  void (*pack_values)(const CacheRows& values, int64_t from, int64_t to, int64_t channels, const Tiles& tiles,
                      int64_t s, uint8_t* records, int64_t stride);
  // out [together][count * 16] = activations times `count` such records, of which tiles.subblocks from `first` on;
  // `raised` ones are probabilities, times values.
  void (*multiply)(const Tiles& tiles, const uint8_t* records, int64_t stride, int64_t count, int64_t first,
                   bool raised, int32_t* zeros, const Activations& x, float* out, int64_t out_stride);
};

// Some channels of a short convolution at one token. Rows and taps lie `stride` numbers apart; bias may be null.
struct Convolved {
  const float *before, *after, *value, *rows, *taps, *bias;
  int64_t stride;
};

// What latent attention and short convolutions are made of beside that.
struct MixerKernels {
  // sums [count][columns / 4][4][4] + weights [count][16] * a tile row, from the side of its rows: the sums of four
  // columns, of rows r with r % 4 = 0, then 1, 2, 3. Factors are the weights' business; `next` as in `multiply`.
  void (*multiply_across)(const Tiles& tiles, const uint8_t* record, const uint8_t* next, const Prepared& prepared,
                          const float* weights, int count, float* sums);
  // out [columns]: such sums, added up.
  void (*fold)(const float* sums, int64_t columns, float* out);
  // row [n] = before * value, the last of `seen` rows; out [n] = after * (sum of taps * rows + bias).
  void (*convolve)(const Convolved& given, int64_t seen, int64_t n, float* row, float* out);
};

// Some channels of a causal convolution at one token: its last `kernel` inputs, of which the `earlier` first ones stand
// in another place. Rows and taps lie `stride` numbers apart; bias may be null.
struct CausalRows {
  const float *before, *rows, *taps, *bias;
  int64_t earlier, kernel, stride;
};

// How a delta rule forgets: a row of the state keeps e^(rate * softplus(x)), or e^(bound * sigmoid(-rate * x)).
struct Forgetting {
  bool bounded;
  float bound;
};

// Where the time steps of Mamba-2 end.
struct TimeSteps {
  float least, most;
};

// Some tokens of a head whose state is S [rows][columns]. Rows of values and of results are padded to 16 columns, with
// zeros; keys, as queries, lie `stride` numbers apart.
struct Recurrence {
  int64_t tokens, rows, columns, stride;
  const float *keep, *keys;     // [tokens][rows]: what each row of S is multiplied by; what values are added with
  const float *values, *steps;  // [tokens][columns]; [tokens]: what they are multiplied by
  float* out;                   // [tokens][columns]
  const float* from;            // S before the first token; null: it is in `room`
  float *to, *room;             // S after the last one; null: in `room` [rows][padded(columns)], in an order of its own
};

// S <- keep * S;  d = step * (value - key S);  S <- S + key d;  out = query S. Of the sums over rows of the last S it
// is told what they are of the S before: kept keys and queries [tokens][rows] are keep * key and keep * query, and
// products [tokens] are key * query.
struct DeltaRule : Recurrence {
  const float *kept_keys, *kept_queries, *products;
};

// S <- keep * S + key * (step * value);  out = query S + skip * value.
struct Selective : Recurrence {
  const float* queries;
  float skip;
};

// What mixers over a state are made of.
struct RecurrentKernels {
  // out [n] = silu(bias + sum of taps * inputs).
  void (*convolve)(const CausalRows& given, int64_t n, float* out);
  // out [n] = x * length / sqrt(sum of x^2 + 1e-6).
  void (*set_length)(const float* x, int64_t n, float length, float* out);
  void (*forget)(const Forgetting& how, float rate, const float* x, int64_t n, float* keep);
  // kept_key and kept_query [n] are keep * key and keep * query; the result is key * query.
  float (*keep_rows)(const float* keep, const float* key, const float* query, int64_t n, float* kept_key,
                     float* kept_query);
  // x [n] become steps, softplus(x) within its ends; keep [n] = e^(step * rate).
  void (*time_steps)(const TimeSteps& how, float rate, int64_t n, float* x, float* keep);
  // x [n] times silu(gate), or times sigmoid(gate).
  void (*gate)(bool silu, const float* gate, int64_t n, float* x);
  void (*delta_rule)(const DeltaRule& rule);
  void (*selective)(const Selective& rule);
  void (*sigmoid)(float* x, int64_t n);
  // out [n] = softplus(x), or sigmoid(x).
  void (*open)(bool softplus, const float* x, int64_t n, float* out);
};

constexpr int64_t GROUP_LOGITS = 128;   // of which the largest one stands for all
constexpr int64_t BLOCK_WEIGHTS = 256;  // that are summed up together

// What choosing a token is made of, in the very operations of runtime/distribution.py.
struct ChoiceKernels {
  // maxima [groups] of x [128][groups]; false if some x is NaN.
  bool (*find_maxima)(const float* x, int64_t groups, float* maxima);
  // The i of x [n] with x[i] - minus >= least, ascending: how many, or -1 if there are more than `room`.
  int64_t (*collect)(const float* x, int64_t n, float minus, float least, int32_t* ids, int64_t room);
  // weights [n] = e^((x - top) * factor), of what is not above 0.
  void (*weigh_all)(const float* x, int64_t n, float top, float factor, float* weights);
  // sums [blocks] of weights [blocks][256].
  void (*sum_blocks)(const float* weights, int64_t blocks, double* sums);
};

// Of keys [16, width] and of values [16 channels, SPAN tokens].
constexpr Format ATTENDED{Kind::eight, COLUMNS, false, Scales::float32};

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
  // Reads codes and zero points of a tile row that is prepared, to offsets and codes of `out`. Null, as the next one,
  // where nothing is shifted.
  void (*make_signed)(const Tiles& tiles, const uint8_t* record, const Prepared& prepared, const Signed& out);
  // The same as `multiply` for `count` tile rows, 1 or 2, whose records follow one another and whose products lie
  // `apart` numbers from one another. `next` is as many records, or null.
  void (*multiply_signed)(const Tiles& tiles, const uint8_t* record, const uint8_t* next, const Signed& rows, int count,
                          const Activations& x, float* out, int64_t stride, int64_t apart);
  // gate [n] becomes the experts' inner value of gate and up [n]; up is not read without a second matrix.
  void (*activate)(const Activation& how, float* gate, const float* up, int64_t n);
  // sums [m][16] + weights [m] * x [m][16], for each of `count` rows m, whose sums are anywhere.
  void (*accumulate)(float* const* sums, const float* weights, const float* x, int count);
  AttentionKernels attention;
  MixerKernels mixers;
  RecurrentKernels recurrent;
  ChoiceKernels choice;
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
