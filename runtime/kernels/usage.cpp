// A list of all layers' counts behind a lock, which making and ending a kernel takes and running it never does.

#include "usage.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>

namespace moedge {
namespace {

std::mutex lock;
Usage* first = nullptr;
thread_local uint64_t current_owner = 0;

}  // namespace

Usage::Usage(uint64_t owner, int64_t layer, int64_t experts) : owner_(owner), layer_(layer), experts_(experts) {
  counts_ = static_cast<std::atomic<uint64_t>*>(calloc((size_t)experts, sizeof(std::atomic<uint64_t>)));
  if (!counts_) abort();
  const std::lock_guard<std::mutex> held(lock);
  next_ = first;
  previous_ = nullptr;
  if (first) first->previous_ = this;
  first = this;
}

Usage::~Usage() {
  {
    const std::lock_guard<std::mutex> held(lock);
    if (next_) next_->previous_ = previous_;
    (previous_ ? previous_->next_ : first) = next_;
  }
  free(counts_);
}

int64_t Usage::read(uint64_t owner, int64_t layer, uint64_t* counts, int64_t room) {
  const std::lock_guard<std::mutex> held(lock);
  for (const Usage* one = first; one; one = one->next_) {
    if (one->owner_ != owner || one->layer_ != layer) continue;
    for (int64_t i = 0; i < one->experts_ && i < room; i++) counts[i] = one->counts_[i].load(std::memory_order_relaxed);
    return one->experts_;
  }
  return -1;
}

void Usage::set_owner(uint64_t owner) { current_owner = owner; }

uint64_t Usage::owner() { return current_owner; }

bool pages_were_missing() {
  static std::atomic<long> before{-1};
  rusage now;
  if (getrusage(RUSAGE_SELF, &now)) return false;
  return before.exchange(now.ru_majflt, std::memory_order_relaxed) != now.ru_majflt;
}

void advise_needed(const void* begin, size_t bytes) {
  static const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t from = (uintptr_t)begin / page * page;
  madvise(reinterpret_cast<void*>(from), (uintptr_t)begin + bytes - from, MADV_WILLNEED);
}

}  // namespace moedge
