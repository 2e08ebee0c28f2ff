// How often each expert of each layer was chosen, by whoever owns the kernels; and pages that are needed soon.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace moedge {

// Counts of one layer's experts, on a list of all while it lives.
class Usage {
 public:
  Usage(uint64_t owner, int64_t layer, int64_t experts);
  ~Usage();
  Usage(const Usage&) = delete;

  int64_t experts() const { return experts_; }
  void add(int64_t expert, int64_t tokens) { counts_[expert].fetch_add((uint64_t)tokens, std::memory_order_relaxed); }
  static int64_t read(uint64_t owner, int64_t layer, uint64_t* counts, int64_t room);
  // To whom the kernels belong that this thread makes from now on.
  static void set_owner(uint64_t owner);
  static uint64_t owner();

 private:
  uint64_t owner_;
  int64_t layer_, experts_;
  std::atomic<uint64_t>* counts_;
  Usage *next_, *previous_;
};

// Whether pages had to be read from storage since this was last asked: weights do not lie in memory then.
bool pages_were_missing();
// Tells the system that these bytes of a mapped file are needed soon.
void advise_needed(const void* begin, size_t bytes);

}  // namespace moedge
