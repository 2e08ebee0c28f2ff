// Tile rows that are about to be multiplied with groups of activations, in the form that these take.
#pragma once

#include "work.h"

namespace moedge {

class TileRows {
 public:
  static constexpr int MOST = 2;  // that are multiplied at once

  // What its memory takes. `shifted`: whether any activations may be.
  static size_t bytes(const Tiles& tiles, bool shifted) {
    return prepared_bytes(tiles) + (shifted ? MOST * signed_bytes(tiles) : 0);
  }

  TileRows(const Kernels& kernels, const Tiles& tiles, bool shifted, Scratch& memory)
      : kernels_(kernels), tiles_(tiles), prepared_(take_prepared(memory, tiles)) {
    if (!shifted) return;
    const int64_t scales = tiles.blocks * ROWS, offsets = tiles.subblocks * ROWS;
    signed_.scales = memory.take<float>(MOST * signed_bytes(tiles) / sizeof(float));
    signed_.offsets = reinterpret_cast<int32_t*>(signed_.scales + scales);
    signed_.codes = reinterpret_cast<uint8_t*>(signed_.offsets + offsets);
    signed_.stride = signed_bytes(tiles);
  }

  static int at_once(bool shifted) { return shifted ? MOST : 1; }

  // Reads `count` of them, at most as many as `at_once`, whose records begin at `record`.
  void prepare(const uint8_t* record, int count, bool shifted) {
    record_ = record, count_ = count, shifted_ = shifted;
    if (!shifted) return kernels_.prepare(tiles_, record, prepared_);
    for (int i = 0; i < count; i++, record += tiles_.bytes) {
      const int64_t at = i * signed_.stride;
      const Signed to{signed_.scales + at / sizeof(float), signed_.offsets + at / sizeof(int32_t), signed_.codes + at,
                      0};
      const Prepared prepared{to.scales, prepared_.zeros};
      kernels_.prepare(tiles_, record, prepared);
      kernels_.make_signed(tiles_, record, prepared, to);
    }
  }

  // What was read times a group, to out [together][16] with rows `stride` apart, of each `apart` from the one before.
  // `next` is what is read next, or null.
  void multiply(const uint8_t* next, const uint8_t* x, int together, float* out, int64_t stride, int64_t apart) const {
    const Activations some{x, together, shifted_};
    if (shifted_)
      kernels_.multiply_signed(tiles_, record_, next, signed_, count_, some, out, stride, apart);
    else
      kernels_.multiply(tiles_, record_, next, prepared_, some, out, stride);
  }

 private:
  static int64_t signed_bytes(const Tiles& tiles) {
    return tiles.blocks * ROWS * sizeof(float) + tiles.subblocks * (ROWS * sizeof(int32_t) + 2 * LOWER);
  }

  const Kernels& kernels_;
  const Tiles& tiles_;
  Prepared prepared_;
  Signed signed_{};
  const uint8_t* record_ = nullptr;
  int count_ = 0;
  bool shifted_ = false;
};

}  // namespace moedge
