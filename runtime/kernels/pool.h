// Threads that the operators of a session share: helpers that stay awake within a step and sleep between steps.
//
// Whoever calls works too, and never waits for a helper that has not begun. Where a busy neighbour takes processors
// away, fewer helpers are taken, and the last one for part of the time: see `Pool::want`.
#pragma once

#include <atomic>
#include <cstdint>

#include "work.h"

namespace moedge {

class Pool {
 public:
  // One for so many threads, the caller's included, held once; fewer where the system makes no more. Null: no memory.
  // For `awake_us` after its last call a helper waits in a loop, which should cover what lies between two operators.
  static Pool* make(int threads, int awake_us);
  void hold() { holders_.fetch_add(1); }
  // Ends it with its last holder.
  void release();

  // The pool of the kernels that this thread makes from now on; null: they use the threads of ONNX Runtime.
  static void lend(Pool* pool);
  static Pool* lent();

  // How many threads work at most in calls that this thread makes from now on, itself included.
  static void limit(int threads);

  Threads threads() {
    return {[](void* self, size_t count, Work work, void* what) { static_cast<Pool*>(self)->run(count, work, what); },
            this};
  }
  int helpers() const { return helpers_; }

 private:
  using Work = void (*)(void* what, size_t i);
  struct Helper;

  explicit Pool(int awake_us) : awake_((uint64_t)awake_us * 1000) {}
  ~Pool();
  void run(size_t count, Work work, void* what);
  uint32_t want(uint64_t now);
  void work_off();
  void wait_for_helpers(uint32_t call);
  void help();
  uint32_t wait_for_call(uint32_t seen);
  bool join(uint32_t call);
  void leave(uint32_t call);

  std::atomic<int> holders_{1};
  const uint64_t awake_;  // ns
  int helpers_ = 0;
  Helper* first_ = nullptr;

  // What is touched all the time lies apart from what is only read meanwhile.
  alignas(64) std::atomic<uint32_t> call_{0};     // its number; helpers sleep on it
  alignas(64) std::atomic<uint64_t> members_{0};  // call number, open, how many more may join, how many are inside
  alignas(64) std::atomic<size_t> next_{0};       // item
  alignas(64) std::atomic<uint32_t> done_{0};     // the last call that its helpers have left; the caller sleeps on it
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<bool> ends_{false}, stays_awake_{true};
  std::atomic<uint64_t> disturbed_{0};  // ns that helpers have lost since the caller looked
  std::atomic<int> sleepers_{0}, caller_sleeps_{0};
  Work work_ = nullptr;
  void* what_ = nullptr;
  size_t count_ = 0;
  // of the caller, while it is busy
  double allowed_ = 0, credit_ = 0, lost_ = 0;        // helpers; nanoseconds of one more; nanoseconds
  uint64_t looked_ = 0, tired_until_ = 0, rest_ = 0;  // ns
};

// What a kernel keeps of the pool that was lent when it was made.
class Lent {
 public:
  Lent() : pool_(Pool::lent()) {
    if (pool_) pool_->hold();
  }
  ~Lent() {
    if (pool_) pool_->release();
  }
  Lent(const Lent&) = delete;
  Pool* pool() const { return pool_; }

 private:
  Pool* pool_;
};

}  // namespace moedge
