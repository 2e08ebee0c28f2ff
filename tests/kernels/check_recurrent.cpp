// Mixers over a state on made-up tokens: all instruction sets, threads and ways to cut a timeline give the same bits.
// Whether they are right is for the tests in Python.

#include "check_recurrent.h"

#include <functional>

#include "causal_convolution.h"
#include "crowd.h"
#include "delta_net.h"
#include "mamba2.h"

namespace check {
namespace {

using moedge::Kernels;
using moedge::Segment;
using moedge::StateRows;
using moedge::States;

std::vector<float> make(Random& random, int64_t n, double size) {
  std::vector<float> x(n);
  for (float& each : x) each = (float)(random.value() * size);
  return x;
}

// Timelines that read row 0, or the one that holds their state, and write the rows behind it, of a memory.
struct Timelines {
  std::vector<int64_t> counts;
  std::vector<float> memory;
  int64_t row, tokens = 0;

  Timelines(Random& random, int64_t row_size) : row(row_size) {
    for (int64_t i = random.whole(1, 3); i > 0; i--) counts.push_back(random.whole(0, 40));
    for (const int64_t count : counts) tokens += count;
    memory = make(random, (1 + 2 * (int64_t)counts.size()) * row, 1);
  }
};

// An operator over tokens from `first` on, into `out` where the first one's is.
using Operator = std::function<bool(const Kernels&, const moedge::Threads&, const States&, float* memory, int64_t first,
                                    float* out)>;

struct Given {
  std::vector<float> out, states;
};

// `step` tokens of a timeline at a time, or all timelines at once.
Given run(const Timelines& all, int64_t width, const Operator& compute, const Kernels& kernels, Crowd& crowd,
          int64_t step) {
  Given given{std::vector<float>(all.tokens * width, 1e30f), {}};
  std::vector<float> memory = all.memory;
  const int64_t n = (int64_t)all.counts.size();
  std::vector<Segment> segments;
  std::vector<StateRows> rows;
  for (int64_t i = 0; i < n; i++) segments.push_back({0, 0, all.counts[i]}), rows.push_back({0, 1 + 2 * i});
  auto some = [&](const States& states, int64_t first) {
    if (moedge::check_states(states, states.tokens(), 1 + 2 * n)) fail("good states are refused");
    if (!compute(kernels, crowd.lend(), states, memory.data(), first, given.out.data() + first * width))
      fail("a mixer over a state has not enough memory");
  };
  if (!step) some({segments.data(), rows.data(), n}, 0);
  for (int64_t i = 0, first = 0; step && i < n; first += all.counts[i++])
    for (int64_t done = 0, count, part = 0; part == 0 || done < all.counts[i]; done += count, part++) {
      count = std::min(step, all.counts[i] - done);
      const Segment segment{0, done, count};
      rows[i] = {part ? rows[i].written : 0, 1 + 2 * i + part % 2};
      some({&segment, &rows[i], 1}, first + done);
    }
  for (int64_t i = 0; i < n; i++)
    given.states.insert(given.states.end(), memory.begin() + rows[i].written * all.row,
                        memory.begin() + (rows[i].written + 1) * all.row);
  return given;
}

void compare(Random& random, const Timelines& all, int64_t width, const Operator& compute, const std::string& what) {
  Crowd crowd{1, Random(random.engine()())};
  const Given wanted = run(all, width, compute, moedge::SCALAR, crowd, 0);
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 3})
      for (const int64_t step : {int64_t{0}, random.whole(1, 20)}) {
        crowd.threads = threads;
        const Given found = run(all, width, compute, *kernels, crowd, step);
        if (!same(found.out.data(), wanted.out.data(), wanted.out.size()) ||
            !same(found.states.data(), wanted.states.data(), wanted.states.size()))
          fail(what + " of " + kernels->name + " in steps of " + std::to_string(step) + ": other bits");
      }
}

void check_causal(Random& random) {
  const int64_t channels = random.whole(1, 1200), kernel = random.whole(2, 6);
  const Timelines all(random, (kernel - 1) * channels);
  const std::vector<float> x = make(random, all.tokens * channels, 2), taps = make(random, kernel * channels, 1);
  const std::vector<float> bias = make(random, channels, 1);
  const moedge::CausalConvolution c{channels, kernel, taps.data(), random.once_in(2) ? bias.data() : nullptr};
  compare(
      random, all, channels,
      [&](const Kernels& kernels, const moedge::Threads& threads, const States& states, float* memory, int64_t first,
          float* out) {
        moedge::run_causal_convolution(kernels, threads, c, x.data() + first * channels, states, memory, out);
        return true;
      },
      "a causal convolution");
}

void check_delta_net(Random& random) {
  moedge::DeltaNet net{};
  net.key_heads = random.whole(1, 3), net.value_heads = net.key_heads * random.whole(1, 3);
  net.key_dim = random.whole(1, 70);
  net.value_dim = random.once_in(2) ? 16 * random.whole(1, 8) : random.whole(1, 150);
  net.scale = 0.3f, net.eps = 1e-6f;
  net.per_channel = random.once_in(2), net.silu = random.once_in(2);
  net.forgetting = {random.once_in(3), -5};
  std::vector<float> rates = make(random, net.value_heads, 1);
  for (float& rate : rates) rate = -std::exp(3 * rate);
  const std::vector<float> shift = make(random, net.decays(), 1), norm = make(random, net.value_dim, 1);
  net.rates = rates.data(), net.shift = shift.data(), net.norm = norm.data();
  const Timelines all(random, net.state());
  std::vector<float> mixed = make(random, all.tokens * net.columns(), 2);
  const std::vector<float> gate = make(random, all.tokens * net.values(), 6);
  const std::vector<float> beta = make(random, all.tokens * net.value_heads, 4);
  const std::vector<float> decay = make(random, all.tokens * net.decays(), random.once_in(4) ? 90 : 4);
  if (random.once_in(8) && all.tokens) mixed[random.whole(0, (int64_t)mixed.size() - 1)] = NAN;
  compare(
      random, all, net.values(),
      [&](const Kernels& kernels, const moedge::Threads& threads, const States& states, float* memory, int64_t first,
          float* out) {
        return moedge::run_delta_net(kernels, threads, net,
                                     {mixed.data() + first * net.columns(), gate.data() + first * net.values(),
                                      beta.data() + first * net.value_heads, decay.data() + first * net.decays()},
                                     states, memory, out);
      },
      "a delta rule");
}

void check_mamba2(Random& random) {
  moedge::Mamba2 m{};
  m.groups = random.whole(1, 3), m.heads = m.groups * random.whole(1, 3);
  m.head_dim = random.once_in(2) ? 16 * random.whole(1, 6) : random.whole(1, 100);
  m.state = random.whole(1, 70), m.norm_groups = random.once_in(2) ? m.groups : m.heads;
  m.eps = 1e-5f;
  m.steps = {random.once_in(2) ? 0.1f : 0, random.once_in(2) ? 1 : 3.4e38f};
  std::vector<float> rates = make(random, m.heads, 1);
  for (float& rate : rates) rate = -std::exp(3 * rate);
  const std::vector<float> shift = make(random, m.heads, 1), skip = make(random, m.heads, 1);
  const std::vector<float> norm = make(random, m.inner(), 1);
  m.rates = rates.data(), m.shift = shift.data(), m.skip = skip.data(), m.norm = norm.data();
  const Timelines all(random, m.heads * m.state * m.head_dim);
  const std::vector<float> mixed = make(random, all.tokens * m.columns(), 2);
  const std::vector<float> gate = make(random, all.tokens * m.inner(), 6), dt = make(random, all.tokens * m.heads, 9);
  compare(
      random, all, m.inner(),
      [&](const Kernels& kernels, const moedge::Threads& threads, const States& states, float* memory, int64_t first,
          float* out) {
        return moedge::run_mamba2(
            kernels, threads, m,
            {mixed.data() + first * m.columns(), gate.data() + first * m.inner(), dt.data() + first * m.heads}, states,
            memory, out);
      },
      "a state space");
}

}  // namespace

void check_recurrent(Random& random) {
  check_causal(random);
  check_delta_net(random);
  check_mamba2(random);
}

}  // namespace check
