// Two times the same work and a comparison of the bytes. A compiler or an emulator that rounds elsewhere is found here.

#include "self_check.h"

#include <initializer_list>

#include "self_check_random.h"
#include "tile_rows.h"

namespace moedge {
namespace {

// Scales that are usual numbers, and signs: others have no meaning in some of the types.
void fill_record(const Tiles& tiles, Random& random, uint8_t* record) {
  for (int64_t i = 0; i < tiles.bytes; i++) record[i] = (uint8_t)(random.next() >> 11);
  for (int64_t i = 0; i < tiles.blocks * ROWS; i++) {
    uint8_t* at = record + i * tiles.scale_bytes();
    const float scale = random.value() * 0.01f;
    uint32_t bits;
    memcpy(&bits, &scale, 4);
    const uint16_t half = (uint16_t)((random.next() & 0x83ff) | (0x10 + random.next() % 8) << 8), brain = bits >> 16;
    switch (tiles.format.scales) {
      case Scales::float32: memcpy(at, &scale, 4); break;
      case Scales::float16: memcpy(at, &half, 2); break;
      case Scales::bfloat16: memcpy(at, &brain, 2); break;
      case Scales::float8:
        if ((*at & 0x7f) == 0x7f) *at = 1;
        break;
      case Scales::float8e8m0: *at = (uint8_t)(110 + *at % 20); break;
    }
  }
  for (int r = 0; tiles.has_factors() && r < ROWS; r++) {
    const float factor = random.value();
    memcpy(record + tiles.factors + 4 * r, &factor, 4);
  }
}

// What comes of a small cache, in both ways of attention, and of a convolution. Parts that are not written are zeros.
struct Attended {
  static constexpr int64_t WIDTH = 48, TOKENS = 64, SEEN = 21, QUERIES = 3, ROW = WIDTH * 4;

  uint8_t keys[TOKENS * ROW], values[TOKENS * ROW];
  float q[QUERIES * WIDTH], loaded[WIDTH], scores[QUERIES * SCORES], largest[QUERIES], sum[QUERIES];
  float direct[QUERIES * WIDTH], products[QUERIES * TOKENS], totals[QUERIES], tiled[QUERIES * WIDTH];
  float rows[3 * WIDTH], convolved[WIDTH];
  uint32_t odd;

  bool run(const Kernels& kernels, RowType type, uint32_t seed) {
    memset(this, 0, sizeof *this);
    Random random(seed);
    const AttentionKernels& k = kernels.attention;
    float x[WIDTH], other[WIDTH];
    auto fill = [&](float* to) {
      for (int64_t i = 0; i < WIDTH; i++) to[i] = random.value();
    };
    const int64_t row_bytes = row_bytes_of(type, WIDTH);
    for (uint8_t* rows : {keys, values})
      for (int64_t t = 0; t < TOKENS; t++) fill(x), k.store(x, WIDTH, type, rows + t * row_bytes);
    const CacheRows all_keys{keys, 0, row_bytes, WIDTH, type}, all_values{values, 0, row_bytes, WIDTH, type};
    k.load(keys, all_keys, WIDTH, loaded);
    for (int64_t m = 0; m < QUERIES; m++) {
      float* own = q + m * WIDTH;
      fill(x), fill(other);
      k.hold(x, 0.7f, WIDTH, own);
      k.normalize(own, other, WIDTH, 1e-6f);
      k.rotate(own, other, x, WIDTH / 2);
      k.multiply_by(own, 1.7f, WIDTH);
    }
    k.score(all_keys, SEEN, WIDTH, q, QUERIES, scores);
    for (int64_t m = 0; m < QUERIES; m++) k.soften(scores + m * SCORES, SEEN, largest + m, sum + m);
    k.gather(all_values, SEEN, WIDTH, scores, QUERIES, direct);
    k.blend(direct, 0.3f, loaded, 0.6f, WIDTH);
    for (float* row = rows; row < rows + 2 * WIDTH; row += WIDTH) fill(row);
    kernels.mixers.convolve({loaded, q, x, rows, q, other, WIDTH}, 3, WIDTH - 1, rows + 2 * WIDTH, convolved);
    return multiply(kernels, all_keys, all_values);
  }

 private:
  bool multiply(const Kernels& kernels, CacheRows all_keys, CacheRows all_values) {
    const AttentionKernels& k = kernels.attention;
    const Tiles of_keys(ATTENDED, ROWS, WIDTH), of_values(ATTENDED, ROWS, TOKENS);
    const int64_t key_stride = of_keys.bytes + of_keys.subblocks * ROWS * 4;
    const int64_t value_stride = of_values.bytes + of_values.subblocks * ROWS * 4;
    const int64_t row_bytes = of_keys.subblocks * PER_ROW, weight_bytes = of_values.subblocks * PER_ROW;
    Scratch memory;
    if (!memory.begin(TOKENS / ROWS * key_stride + WIDTH / ROWS * value_stride + prepared_bytes(of_values) +
                      QUERIES * (2 * row_bytes + weight_bytes)))
      return false;
    uint8_t* packed_keys = memory.take<uint8_t>(TOKENS / ROWS * key_stride);
    uint8_t* packed_values = memory.take<uint8_t>(WIDTH / ROWS * value_stride);
    memset(packed_values, 0, WIDTH / ROWS * value_stride);
    const Prepared prepared = take_prepared(memory, of_values);
    kernels.prepare(of_values, packed_values, prepared);
    uint8_t* alone = memory.take<uint8_t>(QUERIES * row_bytes);
    uint8_t* joined = memory.take<uint8_t>(QUERIES * row_bytes);
    uint8_t* weights = memory.take<uint8_t>(QUERIES * weight_bytes);
    for (int64_t t = 0; t < TOKENS; t += ROWS, all_keys.begin += ROWS * all_keys.row_bytes)
      odd |= k.pack_keys(all_keys, t ? 0 : 5, ROWS, of_keys, packed_keys + t / ROWS * key_stride);
    for (int64_t s = 0; s < TOKENS / COLUMNS; s++, all_values.begin += COLUMNS * all_values.row_bytes)
      k.pack_values(all_values, s ? 0 : 5, COLUMNS, WIDTH, of_values, s, packed_values, value_stride);
    const uint8_t* members[QUERIES];
    for (int64_t m = 0; m < QUERIES; m++) {
      kernels.quantize(q + m * WIDTH, WIDTH, of_keys.subblocks, alone + m * row_bytes);
      members[m] = alone + m * row_bytes;
    }
    join_rows(members, QUERIES, of_keys.subblocks, kernels.shifts, joined);
    k.multiply(of_keys, packed_keys, key_stride, TOKENS / ROWS, 0, false, prepared.zeros,
               {joined, QUERIES, kernels.shifts}, products, TOKENS);
    for (int m = 0; m < QUERIES; m++) {
      float* row = products + m * TOKENS;
      totals[m] = k.weigh(row, TOKENS, k.largest(row, TOKENS), m, QUERIES, weights);
    }
    k.multiply(of_values, packed_values, value_stride, WIDTH / ROWS, 0, true, prepared.zeros,
               {weights, QUERIES, kernels.shifts}, tiled, WIDTH);
    return true;
  }
};

const char* check_attention(const Kernels& kernels, RowType type, uint32_t seed) {
  Attended found, wanted;
  if (!found.run(kernels, type, seed) || !wanted.run(SCALAR, type, seed)) return "it has not enough memory";
  if (memcmp(&found, &wanted, sizeof found)) return "attention or a convolution differs from the scalar one";
  return nullptr;
}

}  // namespace

const char* check_case(const Kernels& kernels, Format format, int64_t columns, int together, uint32_t seed) {
  Random random(seed);
  const Tiles tiles(format, ROWS, columns);
  const int64_t row_bytes = tiles.subblocks * PER_ROW;
  Scratch memory;
  const bool shifted = shifts(kernels, tiles, 2 * kernels.together);
  constexpr int RECORDS = TileRows::MOST;
  const int64_t products_bytes = RECORDS * together * ROWS * 4;
  if (!memory.begin(RECORDS * tiles.bytes + 2 * prepared_bytes(tiles) + TileRows::bytes(tiles, shifted) +
                    5 * together * row_bytes + columns * 4 + 3 * products_bytes +
                    2 * together * tiles.subblocks * COLUMNS * 4 * 4))
    return "it has not enough memory";
  uint8_t* records = memory.take<uint8_t>(RECORDS * tiles.bytes);
  for (int t = 0; t < RECORDS; t++) fill_record(tiles, random, records + t * tiles.bytes);
  float* x = memory.take<float>(columns);
  uint8_t* rows[2] = {memory.take<uint8_t>(together * row_bytes), memory.take<uint8_t>(together * row_bytes)};
  for (int m = 0; m < together; m++) {
    for (int64_t i = 0; i < columns; i++) x[i] = random.value() * (m == 1 ? 100.0f : 1.0f);
    if (m == 2) memset(x, 0, columns * 4);
    kernels.quantize(x, columns, tiles.subblocks, rows[0] + m * row_bytes);
    SCALAR.quantize(x, columns, tiles.subblocks, rows[1] + m * row_bytes);
  }
  if (memcmp(rows[0], rows[1], together * row_bytes)) return "rounding of activations differs from the scalar one";
  const uint8_t* members[MOST_TOGETHER];
  for (int m = 0; m < together; m++) members[m] = rows[0] + m * row_bytes;
  uint8_t* joined = memory.take<uint8_t>(together * row_bytes);
  join_rows(members, together, tiles.subblocks, false, joined);
  uint8_t* shifted_rows = memory.take<uint8_t>(together * row_bytes);
  join_rows(members, together, tiles.subblocks, shifted, shifted_rows);

  const Kernels* both[2] = {&kernels, &SCALAR};
  float* products[3];  // [records][together][16]
  for (float*& product : products) product = memory.take<float>(products_bytes / 4);
  const int64_t across = together * tiles.subblocks * COLUMNS * 4;
  float *sums[2] = {memory.take<float>(across), memory.take<float>(across)}, weights[MOST_TOGETHER * ROWS];
  for (float& weight : weights) weight = random.value();
  for (int i = 0; i < 2; i++) {
    const Prepared prepared = take_prepared(memory, tiles);
    for (int t = RECORDS - 1; t >= 0; t--) {
      const uint8_t* record = records + t * tiles.bytes;
      both[i]->prepare(tiles, record, prepared);
      both[i]->multiply(tiles, record, i ? nullptr : record, prepared, {joined, together, false},
                        products[i] + t * together * ROWS, ROWS);
    }
    memset(sums[i], 0, across * 4);
    both[i]->mixers.multiply_across(tiles, records, i ? nullptr : records, prepared, weights, together, sums[i]);
  }
  TileRows tile_rows(kernels, tiles, shifted, memory);
  for (int t = 0; t < RECORDS; t += TileRows::at_once(shifted)) {
    tile_rows.prepare(records + t * tiles.bytes, TileRows::at_once(shifted), shifted);
    tile_rows.multiply(records, shifted_rows, together, products[2] + t * together * ROWS, ROWS, together * ROWS);
  }
  for (const float* product : {products[0], products[2]})
    if (memcmp(product, products[1], products_bytes)) return "products differ from the scalar ones";
  if (memcmp(sums[0], sums[1], across * 4)) return "products from the side of rows differ from the scalar ones";
  const Gate gates[] = {Gate::swiglu, Gate::geglu_tanh, Gate::geglu_erf, Gate::relu2, Gate::silu};
  for (const Gate gate : gates)
    for (const float limit : {0.0f, 0.5f}) {
      float sides[2][ROWS], up[ROWS];
      for (int i = 0; i < ROWS; i++) sides[0][i] = sides[1][i] = 10 * random.value(), up[i] = random.value();
      for (int i = 0; i < 2; i++) {
        both[i]->activate({gate, 1.702f, 1.0f, limit}, sides[i], up, ROWS);
        float* const sum = sides[i];
        const float share = 0.3f;
        both[i]->accumulate(&sum, &share, up, 1);
      }
      if (memcmp(sides[0], sides[1], sizeof sides[0])) return "activations differ from the scalar ones";
    }
  return nullptr;
}

const char* check_kernels(const Kernels& kernels) {
  const Kind kinds[] = {Kind::four, Kind::floats, Kind::five, Kind::six, Kind::eight};
  const Scales scales[] = {Scales::float32, Scales::float16, Scales::bfloat16, Scales::float8, Scales::float8e8m0};
  uint32_t seed = 1;
  for (const Kind kind : kinds)
    for (const int block : {16, 32, 64, 128})
      for (int zero_point = 0; zero_point < (kind == Kind::floats ? 1 : 2); zero_point++) {
        const Format format{kind, block, zero_point != 0, scales[seed % 5]};
        const int together = 1 + (int)(seed % (uint32_t)kernels.together);
        if (const char* fault = check_case(kernels, format, block == 16 ? 48 : 256, together, seed++)) return fault;
      }
  for (const RowType type : {RowType::float32, RowType::float16, RowType::int8})
    if (const char* fault = check_attention(kernels, type, seed++)) return fault;
  return check_recurrent(kernels, seed);
}

}  // namespace moedge
