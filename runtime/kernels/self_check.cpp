// Two times the same work and a comparison of the bytes. A compiler or an emulator that rounds elsewhere is found here.

#include "self_check.h"

#include <initializer_list>

#include "work.h"

namespace moedge {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 17, state_ ^= state_ << 5;
    return state_;
  }
  float value() { return (float)(int32_t)next() / 2147483648.0f; }  // -1 to 1

 private:
  uint32_t state_;
};

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

}  // namespace

const char* check_case(const Kernels& kernels, Format format, int64_t columns, int together, uint32_t seed) {
  Random random(seed);
  const Tiles tiles(format, ROWS, columns);
  const int64_t row_bytes = tiles.subblocks * PER_ROW;
  Scratch memory;
  if (!memory.begin(tiles.bytes + 2 * prepared_bytes(tiles) + 5 * together * row_bytes + columns * 4 +
                    4 * MOST_TOGETHER * ROWS * 4))
    return "it has not enough memory";
  uint8_t* record = memory.take<uint8_t>(tiles.bytes);
  fill_record(tiles, random, record);
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
  const bool shifted = shifts(kernels, tiles, 2 * kernels.together);
  uint8_t* shifted_rows = memory.take<uint8_t>(together * row_bytes);
  join_rows(members, together, tiles.subblocks, shifted, shifted_rows);

  const Kernels* both[2] = {&kernels, &SCALAR};
  float* products[3];
  for (float*& product : products) product = memory.take<float>(together * ROWS);
  for (int i = 0; i < 2; i++) {
    const Prepared prepared = take_prepared(memory, tiles, i == 0 && shifted);
    both[i]->prepare(tiles, record, prepared);
    both[i]->multiply(tiles, record, i ? nullptr : record, prepared, {joined, together, false}, products[i], ROWS);
    if (i == 0)
      kernels.multiply(tiles, record, nullptr, prepared, {shifted_rows, together, shifted}, products[2], ROWS);
  }
  for (const float* product : {products[0], products[2]})
    if (memcmp(product, products[1], together * ROWS * 4)) return "products differ from the scalar ones";
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
  return nullptr;
}

}  // namespace moedge
