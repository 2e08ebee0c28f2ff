// How calls are told to helpers, how these wait, and how many of them a call takes.

#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <new>

namespace moedge {
namespace {

constexpr uint64_t OPEN = 1u << 31, ONE_MORE = 1u << 16, INSIDE = ONE_MORE - 1;  // parts of `members_`
constexpr uint64_t PATIENCE = 100'000;   // ns that the caller waits in a loop for helpers
constexpr uint64_t DISTURBED = 500'000;  // ns without a processor in the middle of work: a neighbour's turn
constexpr double TOLERATED = 0.08;       // of the time, lost so: single turns of whatever else a system runs
constexpr double TOO_MUCH = 8e6;         // ns lost beyond that
constexpr double LEAST = 1.0 / 16;       // helpers, however disturbed
constexpr double RECOVERY = 2e-9;        // helpers a nanosecond
constexpr uint64_t LEAST_REST = 1'000'000'000, MOST_REST = 8'000'000'000;  // ns without staying awake
constexpr double MOST_CREDIT = 1e6;                                        // ns

uint64_t read_clock(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1'000'000'000 + (uint64_t)now.tv_nsec;
}

// How often the system has taken the processor from this thread; waiting for a page is something else.
long count_preemptions() {
  rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nivcsw;
}

void pause_briefly() {
  for (int i = 0; i < 8; i++) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");  // `yield` does nothing on most cores
#endif
  }
}

void sleep_on(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

thread_local Pool* current = nullptr;
thread_local uint32_t most_helpers = UINT_MAX;

}  // namespace

struct Pool::Helper {
  pthread_t thread;
  Helper* next;
};

Pool* Pool::make(int threads, int awake_us) {
  Pool* pool = new (std::nothrow) Pool(awake_us);
  if (!pool) return nullptr;
  while (pool->helpers_ < threads - 1) {
    Helper* helper = new (std::nothrow) Helper;
    if (!helper) break;
    const auto begin = [](void* self) -> void* {
      static_cast<Pool*>(self)->help();
      return nullptr;
    };
    if (pthread_create(&helper->thread, nullptr, begin, pool)) {
      delete helper;
      break;
    }
    helper->next = pool->first_;
    pool->first_ = helper;
    pool->helpers_++;
  }
  pool->allowed_ = pool->helpers_;
  return pool;
}

void Pool::release() {
  if (holders_.fetch_sub(1) == 1) delete this;
}

Pool::~Pool() {
  ends_ = true;
  call_.fetch_add(1);
  wake(call_, INT_MAX);
  while (Helper* helper = first_) {
    first_ = helper->next;
    pthread_join(helper->thread, nullptr);
    delete helper;
  }
}

void Pool::lend(Pool* pool) { current = pool; }

Pool* Pool::lent() { return current; }

void Pool::limit(int threads) { most_helpers = threads > 1 ? (uint32_t)threads - 1 : 0; }

// Calls work(what, i) for each i below count. A second caller, or an item that calls, does all of it alone.
void Pool::run(size_t count, Work work, void* what) {
  if (!helpers_ || count < 2 || busy_.exchange(true, std::memory_order_acquire)) {
    for (size_t i = 0; i < count; i++) work(what, i);
    return;
  }
  const uint64_t begun = read_clock(CLOCK_MONOTONIC);
  const uint32_t wanted = want(begun), places = wanted < count - 1 ? wanted : (uint32_t)(count - 1);
  work_ = work, what_ = what, count_ = count;
  next_.store(0, std::memory_order_relaxed);
  if (!places) {
    work_off();
  } else {
    const uint32_t call = call_.load(std::memory_order_relaxed) + 1;
    members_.store((uint64_t)call << 32 | OPEN | places * ONE_MORE);
    call_.store(call);
    if (const int asleep = sleepers_.load()) wake(call_, asleep < (int)places ? asleep : (int)places);
    work_off();
    if (members_.fetch_and(~OPEN) & INSIDE) wait_for_helpers(call);
    if (places > allowed_) credit_ -= (double)(read_clock(CLOCK_MONOTONIC) - begun);
  }
  busy_.store(false, std::memory_order_release);
}

// How many helpers to take. The system lets a thread that takes more than its share wait for a neighbour's turn of
// milliseconds, in the middle of an item too, and then all others wait for it. So where helpers lose much time they no
// longer stay awake, for longer each time that it does not help; where they lose much all the same, one less is taken,
// or the only one for half the time, and time without loss slowly gives it back.
uint32_t Pool::want(uint64_t now) {
  const double passed = looked_ ? (double)(now - looked_) : 0;
  looked_ = now;
  lost_ = lost_ > passed * TOLERATED ? lost_ - passed * TOLERATED : 0;
  if (disturbed_.load(std::memory_order_relaxed)) lost_ += (double)disturbed_.exchange(0);
  if (lost_ > TOO_MUCH) {
    lost_ = 0;
    if (now >= tired_until_) {
      const bool soon = now - tired_until_ < 4 * rest_;
      rest_ = !soon ? LEAST_REST : rest_ < MOST_REST / 2 ? 2 * rest_ : MOST_REST;
      tired_until_ = now + rest_;
    } else {
      allowed_ = allowed_ > 2 ? allowed_ - 1 : allowed_ / 2 > LEAST ? allowed_ / 2 : LEAST;
    }
  } else if (allowed_ < helpers_) {
    allowed_ += passed * RECOVERY;
    if (allowed_ > helpers_) allowed_ = helpers_;
  }
  stays_awake_.store(now >= tired_until_, std::memory_order_relaxed);
  const uint32_t whole = (uint32_t)allowed_;
  credit_ += passed * (allowed_ - whole);
  if (credit_ > MOST_CREDIT) credit_ = MOST_CREDIT;
  const uint32_t helpers = whole + (allowed_ > whole && credit_ > 0);
  return helpers < most_helpers ? helpers : most_helpers;
}

void Pool::work_off() {
  for (size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) work_(what_, i);
}

void Pool::wait_for_helpers(uint32_t call) {
  const uint64_t begun = read_clock(CLOCK_MONOTONIC);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != call;) {
    if (read_clock(CLOCK_MONOTONIC) - begun < PATIENCE) {
      pause_briefly();
      continue;
    }
    caller_sleeps_ = 1;
    if (done_.load() == done) sleep_on(done_, done);
    caller_sleeps_ = 0;
  }
}

void Pool::help() {
  long preempted = 0;
  for (uint32_t seen = 0; !ends_.load();) {
    seen = wait_for_call(seen);
    if (!join(seen)) continue;
    const uint64_t begun = read_clock(CLOCK_MONOTONIC), worked = read_clock(CLOCK_THREAD_CPUTIME_ID);
    work_off();
    leave(seen);
    const uint64_t took = read_clock(CLOCK_MONOTONIC) - begun;
    if (took < DISTURBED) continue;
    const uint64_t spent = read_clock(CLOCK_THREAD_CPUTIME_ID) - worked, idle = took > spent ? took - spent : 0;
    if (idle < DISTURBED) continue;
    const long now = count_preemptions();
    if (now != preempted) disturbed_ += idle;
    preempted = now;
  }
}

// The number of a call after `seen`; the first one is told by `call_`, awake or asleep.
uint32_t Pool::wait_for_call(uint32_t seen) {
  const uint64_t begun = read_clock(CLOCK_MONOTONIC);
  for (uint64_t before = begun; stays_awake_.load(std::memory_order_relaxed);) {
    const uint32_t call = call_.load(std::memory_order_acquire);
    if (call != seen) return call;
    pause_briefly();
    const uint64_t now = read_clock(CLOCK_MONOTONIC);
    if (now - before > DISTURBED) disturbed_ += now - before;
    if (now - begun > awake_) break;
    before = now;
  }
  sleepers_.fetch_add(1);
  uint32_t call;
  while ((call = call_.load()) == seen) sleep_on(call_, seen);
  sleepers_.fetch_sub(1);
  return call;
}

bool Pool::join(uint32_t call) {
  uint64_t members = members_.load(std::memory_order_acquire);
  while (members >> 32 == call && members & OPEN && (uint32_t)members % OPEN / ONE_MORE)
    if (members_.compare_exchange_weak(members, members - ONE_MORE + 1)) return true;
  return false;
}

void Pool::leave(uint32_t call) {
  const uint64_t members = members_.fetch_sub(1) - 1;
  if (members & OPEN || members & INSIDE) return;
  done_.store(call);
  if (caller_sleeps_.load()) wake(done_, 1);
}

}  // namespace moedge
