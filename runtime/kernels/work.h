// What operators are written with: a place to work in parallel, and memory that a thread keeps from call to call.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace moedge {

// Whoever runs an operator lends it threads: `run` calls work(what, i) for each i below count, and returns after all.
struct Threads {
  void (*run)(void* lender, size_t count, void (*work)(void* what, size_t i), void* what);
  void* lender;

  template <class F>
  void each(size_t count, F work) const {
    if (count == 1) return work(size_t{0});
    run(lender, count, [](void* what, size_t i) { (*static_cast<F*>(what))(i); }, &work);
  }
};

// Memory of one thread that grows and stays; its content is not kept.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  ~Scratch() { free(begin_); }

  // A new use of it: what was given out before is void. `bytes` is all that this use takes, `take` roundings aside.
  // False if there is not so much memory.
  bool begin(size_t bytes) {
    bytes += 64 * 32;
    if (bytes > size_) {
      free(begin_);
      size_ = (bytes + 4095) / 4096 * 4096;
      begin_ = static_cast<uint8_t*>(aligned_alloc(64, size_));
      if (!begin_) size_ = 0;
    }
    used_ = 0;
    return begin_;
  }
  template <class T>
  T* take(size_t count) {
    T* here = reinterpret_cast<T*>(begin_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    if (used_ > size_) abort();  // a mistake of whoever told `begin` how much it is
    return here;
  }

 private:
  uint8_t* begin_ = nullptr;
  size_t size_ = 0, used_ = 0;
};

// Whether so many rows of activations are shifted: it takes a pass over the weights, which a few do not pay for. The
// zero points of 8 bits are too far from the codes, and blocks of 16 columns have two in a subblock.
inline bool shifts(const Kernels& kernels, const Tiles& tiles, int64_t rows) {
  const Format& how = tiles.format;
  return kernels.shifts && rows >= 2 * kernels.together && how.block > 16 &&
         !(how.kind == Kind::eight && how.zero_point);
}

inline size_t zero_blocks(const Tiles& tiles) { return tiles.format.zero_point && tiles.blocks > 2 ? tiles.blocks : 2; }

inline size_t prepared_bytes(const Tiles& tiles) { return (tiles.blocks + zero_blocks(tiles)) * ROWS * 4; }

inline Prepared take_prepared(Scratch& scratch, const Tiles& tiles) {
  float* scales = scratch.take<float>(tiles.blocks * ROWS);
  return {scales, scratch.take<int32_t>(zero_blocks(tiles) * ROWS)};
}

// Puts a row's subblock to its place in a group of `together`.
inline void place_subblock(const uint8_t* from, int m, int together, bool shifted, uint8_t* group) {
  const uint64_t flip = shifted ? 0x8080808080808080u : 0;
  uint64_t values[COLUMNS / 8];
  memcpy(values, from, COLUMNS);
  for (uint64_t& eight : values) eight ^= flip;
  memcpy(group + m * COLUMNS, values, COLUMNS);
  memcpy(group + together * COLUMNS + m * 4, from + COLUMNS, 4);
  memcpy(group + together * (COLUMNS + 4) + m * 4, from + COLUMNS + 4, 4);
}

// Rows of activations that stand alone, joined to be multiplied together.
inline void join_rows(const uint8_t* const* rows, int together, int64_t subblocks, bool shifted, uint8_t* out) {
  for (int64_t s = 0; s < subblocks; s++, out += together * PER_ROW)
    for (int m = 0; m < together; m++) place_subblock(rows[m] + s * PER_ROW, m, together, shifted, out);
}

}  // namespace moedge
