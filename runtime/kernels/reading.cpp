// How fast this machine reads its memory: a plain read, for the roofline of `moedge bench`. No kernel uses it.

#include <cstdint>

// Adds up the words of `bytes` bytes from `data` on, which both are multiples of 128; the sum, so that nothing is left
// out. Four chains, and the next lines asked for early: what a core can keep on the way is the limit, not the adding.
extern "C" __attribute__((visibility("default"))) uint64_t moedge_read(const uint64_t* data, uint64_t bytes) {
  uint64_t sums[8] = {};
  for (const uint64_t* end = data + bytes / 8; data < end; data += 16) {
    __builtin_prefetch(data + 256);
    __builtin_prefetch(data + 264);
    for (int i = 0; i < 8; i++) sums[i] += data[i] + data[i + 8];
  }
  uint64_t sum = 0;
  for (uint64_t part : sums) sum += part;
  return sum;
}
