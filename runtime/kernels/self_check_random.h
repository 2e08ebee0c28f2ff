// Numbers that the self check makes up, the same on every machine.
#pragma once

#include <cstdint>

namespace moedge {

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 17, state_ ^= state_ << 5;
    return state_;
  }
  float value() { return (float)(int32_t)next() / 2147483648.0f; }  // -1 to 1
  template <int N>
  void fill(float (&x)[N], float size) {
    for (float& each : x) each = value() * size;
  }

 private:
  uint32_t state_;
};

}  // namespace moedge
