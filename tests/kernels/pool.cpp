// The pool's own check: every item once, whoever works; callers side by side, items that call, pools that end.

#include "pool.h"

#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

using moedge::Pool;
using moedge::Threads;

namespace {

int failures = 0;

void expect(bool right, const char* what) {
  if (right) return;
  printf("wrong: %s\n", what);
  failures++;
}

void expect_each_once(const Threads& threads, size_t count) {
  const std::unique_ptr<std::atomic<int>[]> done(new std::atomic<int>[count]());
  std::vector<int> plain(count);  // what a helper writes, the caller reads
  threads.each(count, [&](size_t i) { done[i]++, plain[i] = (int)i + 1; });
  bool once = true;
  for (size_t i = 0; i < count; i++) once &= done[i] == 1 && plain[i] == (int)i + 1;
  expect(once, "each item once, and before the call returns");
}

double spent_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

}  // namespace

int main() {
  for (const int threads : {1, 2, 5}) {
    for (const int awake : {0, 100}) {
      Pool* pool = Pool::make(threads, awake);
      expect(pool && pool->helpers() == threads - 1, "as many helpers as asked for");
      for (size_t round = 0; round < 3000; round++) expect_each_once(pool->threads(), round % 70);
      pool->release();
    }
  }
  {  // helpers that have gone to sleep are woken, and do work
    Pool* pool = Pool::make(2, 0);
    const std::thread::id own = std::this_thread::get_id();
    std::atomic<int> others{0};
    for (int round = 0; round < 500 && others < 20; round++) {
      usleep(100);
      std::atomic<bool> joined{false};
      pool->threads().each(2, [&](size_t) {
        if (std::this_thread::get_id() != own) others++, joined = true;
        for (int i = 0; i < 5000 && !joined; i++) sched_yield();
      });
    }
    expect(others > 0, "sleeping helpers are woken");  // beside neighbours it may be few times
    pool->release();
  }
  {  // callers side by side, and items that call
    Pool* pool = Pool::make(3, 100);
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; i++)
      callers.emplace_back([pool] {
        for (size_t round = 0; round < 2000; round++) expect_each_once(pool->threads(), 2 + round % 9);
      });
    for (std::thread& caller : callers) caller.join();
    std::atomic<int> inner{0};
    pool->threads().each(40, [&](size_t) { pool->threads().each(3, [&](size_t) { inner++; }); });
    expect(inner == 120, "items that call");
    pool->release();
  }
  {  // a pool ends with its last holder, whatever its helpers do
    for (int round = 0; round < 200; round++) {
      Pool* pool = Pool::make(4, round % 2 * 100);
      pool->hold();
      if (round % 3) expect_each_once(pool->threads(), 9);
      pool->release();
      expect_each_once(pool->threads(), 5);
      pool->release();
    }
  }
  {  // nothing is done between steps
    Pool* pool = Pool::make(4, 1000);
    expect_each_once(pool->threads(), 50);
    usleep(50'000);
    const double before = spent_seconds();
    usleep(200'000);
    expect(spent_seconds() - before < 0.01, "helpers sleep");
    pool->release();
  }
  {  // what is lent is this thread's
    Pool* pool = Pool::make(2, 0);
    Pool::lend(pool);
    Pool* elsewhere = pool;
    std::thread([&] { elsewhere = Pool::lent(); }).join();
    expect(Pool::lent() == pool && !elsewhere, "lent to a thread");
    {
      const moedge::Lent kept;
      Pool::lend(nullptr);
      pool->release();
      expect_each_once(kept.pool()->threads(), 9);
    }
    expect(!moedge::Lent().pool(), "nothing is lent");
  }
  if (!failures) printf("every item once\n");
  return failures ? 1 : 0;
}
