// What the checks are made of: the instruction sets here, threads that take jobs in any order, equal bits.
#pragma once

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "reference.h"

namespace check {

[[noreturn]] inline void fail(const std::string& what) { throw std::runtime_error(what); }

inline std::vector<const moedge::Kernels*> usable() {
  size_t count;
  const moedge::Kernels* const* sets = moedge::usable_kernels(&count);
  return {sets, sets + count};
}

// Lends real threads, which take jobs in an order of their own.
struct Crowd {
  size_t threads;
  Random random;

  moedge::Threads lend() { return {run, this}; }
  static void run(void* self, size_t count, void (*work)(void*, size_t), void* what) {
    Crowd& crowd = *static_cast<Crowd*>(self);
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), crowd.random.engine());
    std::atomic<size_t> next{0};
    auto take = [&] {
      for (size_t i; (i = next++) < count;) work(what, order[i]);
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < crowd.threads && i < count; i++) others.emplace_back(take);
    take();
    for (std::thread& one : others) one.join();
  }
};

// The same bits; of what is no number there are many.
inline bool same(const float* a, const float* b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (memcmp(a + i, b + i, 4) && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  return true;
}

}  // namespace check
