// Attention on made-up rows: all instruction sets, threads and ways to cut a prompt give the same bits.

#include "check_attention.h"

#include "attention.h"
#include "crowd.h"
#include "self_check.h"

namespace check {
namespace {

using moedge::Kernels;
using moedge::RowType;
using moedge::Segment;

struct Case {
  moedge::Attention attention{};
  RowType type;
  int64_t slots, capacity, row_bytes, tokens = 0;
  std::vector<Segment> segments;
  std::vector<uint8_t> keys, values;
  std::vector<float> joined, cos, sin, q_norm, k_norm, sinks;

  moedge::Tables tables() const {
    return {cos.data(),    sin.data(),    (int64_t)cos.size() / std::max<int64_t>(attention.rotary / 2, 1),
            q_norm.data(), k_norm.data(), sinks.empty() ? nullptr : sinks.data()};
  }
};

std::vector<float> make(Random& random, int64_t n, double size) {
  std::vector<float> x(n);
  for (float& each : x) each = (float)(random.value() * size);
  return x;
}

Case make_case(Random& random) {
  Case c;
  moedge::Attention& a = c.attention;
  const bool large = random.once_in(4);
  a.kv_heads = random.whole(1, 3);
  a.heads = a.kv_heads * random.whole(1, large ? 3 : 9);
  a.dim = random.once_in(3) ? 16 * random.whole(1, random.once_in(3) ? 32 : 9) : random.whole(7, 80);
  a.rotary = random.once_in(4) ? 0 : 2 * random.whole(1, a.dim / 2);
  a.window = random.once_in(2) ? 0 : random.whole(1, large ? 700 : 60);
  a.norm = (moedge::Norm)random.whole(0, 2);
  a.scale = 1 / std::sqrt((float)a.dim);
  a.eps = 1e-6f;
  a.clip = random.once_in(3) ? 0.8f : 0;
  a.exact = random.once_in(4);
  a.key_is_value = random.once_in(4), a.value_norm = random.once_in(3);
  c.type = (RowType)random.whole(0, 2);
  c.slots = random.whole(1, 3);
  c.capacity = large ? 1700 : 120;
  c.row_bytes = moedge::row_bytes_of(c.type, a.dim);
  const bool switches = random.once_in(4);
  a.switches_at = switches ? random.whole(1, c.capacity) : 0;
  for (int64_t slot = 0; slot < c.slots; slot++) {
    const int64_t count = random.once_in(3) ? 1 : random.whole(0, large ? 150 : 40);
    c.segments.push_back({slot, random.once_in(3) ? 0 : random.whole(0, c.capacity - count), count});
    c.tokens += count;
  }
  c.joined = make(random, c.tokens * a.columns(), random.once_in(5) ? 300 : 2);
  const int64_t angles = (c.capacity + a.switches_at) * (a.rotary / 2);
  c.cos = make(random, angles, 1), c.sin = make(random, angles, 1);
  c.q_norm = make(random, a.heads * a.dim, 1), c.k_norm = make(random, a.heads * a.dim, 1);
  if (random.once_in(2)) c.sinks = make(random, a.heads, 4);
  for (std::vector<uint8_t>* rows : {&c.keys, &c.values}) {
    rows->resize(c.slots * a.kv_heads * c.capacity * c.row_bytes);
    for (size_t at = 0; at < rows->size(); at += c.row_bytes) {
      const std::vector<float> row = make(random, a.dim, 2);
      moedge::SCALAR.attention.store(row.data(), a.dim, c.type, rows->data() + at);
    }
  }
  return c;
}

struct Given {
  std::vector<float> out;
  std::vector<uint8_t> keys, values;
};

Given run(const Case& c, const Kernels& kernels, Crowd& crowd, int64_t part) {
  Given given{std::vector<float>(c.tokens * c.attention.heads * c.attention.dim, 1e30f), c.keys, c.values};
  const moedge::Cache cache{given.keys.data(), given.values.data(), c.slots, c.capacity, c.row_bytes, c.type};
  int64_t at = 0;
  auto some = [&](const Segment* segments, int64_t count, int64_t tokens) {
    if (!moedge::run_attention(kernels, crowd.lend(), c.attention, c.joined.data() + at * c.attention.columns(),
                               segments, count, c.tables(), cache,
                               given.out.data() + at * c.attention.heads * c.attention.dim))
      fail("attention has not enough memory");
    at += tokens;
  };
  if (!part) some(c.segments.data(), (int64_t)c.segments.size(), c.tokens);
  for (size_t i = 0; part && i < c.segments.size(); i++)
    for (int64_t done = 0; done < c.segments[i].count;) {
      const int64_t left = c.segments[i].count - done;
      const Segment piece{c.segments[i].slot, c.segments[i].past + done, left < 2 * part ? left : part};
      some(&piece, 1, piece.count);
      done += piece.count;
    }
  return given;
}

void compare(const Given& found, const Given& wanted, bool rows, const std::string& how) {
  if (!same(found.out.data(), wanted.out.data(), wanted.out.size())) fail("attention of " + how + ": other bits");
  if (rows && (found.keys != wanted.keys || found.values != wanted.values))
    fail("rows of keys and values of " + how + ": other bits");
}

// One head of 32 dimensions over rows of fp32; of q, k and v all is 0 but what is put there.
Case make_head(int64_t past, int64_t tokens) {
  Case c;
  c.attention = {};
  c.attention.heads = c.attention.kv_heads = 1, c.attention.dim = 32, c.attention.scale = 1;
  c.type = RowType::float32;
  c.slots = 1, c.capacity = past + tokens, c.row_bytes = 128, c.tokens = tokens;
  c.segments = {{0, past, tokens}};
  c.keys.resize(c.capacity * c.row_bytes), c.values = c.keys;
  c.joined.resize(tokens * 96);
  return c;
}

void expect_same_bits(const Case& c, const std::string& what) {
  Crowd crowd{1, Random(1)};
  const Given wanted = run(c, moedge::SCALAR, crowd, 0);
  for (const Kernels* kernels : usable())
    compare(run(c, *kernels, crowd, 0), wanted, false, what + " by " + kernels->name);
}

void expect_fault(const Kernels& kernels, const std::string& what) {
  if (!moedge::check_kernels(kernels)) fail("the self check does not find a fault in " + what);
}

}  // namespace

void check_attention(Random& random) {
  Case c = make_case(random);
  if (!c.tokens) return;
  const bool nowhere = random.once_in(8);
  if (nowhere) c.joined[random.whole(0, (int64_t)c.joined.size() - 1)] = random.once_in(2) ? NAN : INFINITY;
  const moedge::Tables tables = c.tables();
  const int64_t count = (int64_t)c.segments.size();
  if (moedge::check_segments(c.segments.data(), count, c.tokens, c.slots, c.capacity) ||
      (c.attention.rotary && moedge::check_tables(c.segments.data(), count, tables.rows, c.attention.switches_at)))
    fail("good segments are refused");
  Crowd crowd{1, Random(random.engine()())};
  const Given wanted = run(c, moedge::SCALAR, crowd, 0);
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 5}) {
      crowd.threads = threads;
      compare(run(c, *kernels, crowd, 0), wanted, !nowhere, kernels->name);
    }
  // In fp32, what a token gets does not depend on what came with it. In tiles, values are rounded by 32 tokens.
  if (c.attention.exact && !c.attention.switches_at && !nowhere)
    compare(run(c, *usable().back(), crowd, random.whole(1, 9)), wanted, true, "parts");
}

void check_chosen_attention() {
  // Probabilities in the middle between two of the whole numbers that they are rounded to.
  Case halves = make_head(0, 64);
  for (int64_t t = 0; t < 64; t++) {
    halves.joined[t * 96] = 1;
    halves.joined[t * 96 + 32] = t == 0 ? 0 : t == 40 ? -0.6930752f : t == 50 ? -0.98089f : -200;
  }
  halves.joined[50 * 96 + 64] = 1;
  expect_same_bits(halves, "halves");
  // What is no number reaches the same tokens, however many rows are multiplied together.
  for (const float none : {NAN, INFINITY}) {
    Case reached = make_head(27, 32);
    reached.joined[20 * 96 + 64] = none;
    expect_same_bits(reached, "a value that is none");
  }
  Kernels faulty = moedge::SCALAR;
  faulty.attention.store = [](const float*, int64_t, RowType, uint8_t*) {};
  expect_fault(faulty, "store");
  faulty = moedge::SCALAR;
  faulty.attention.soften = [](float*, int64_t, float*, float*) {};
  expect_fault(faulty, "soften");
  faulty = moedge::SCALAR;
  faulty.attention.gather = [](const moedge::CacheRows&, int64_t, int64_t, const float*, int64_t, float*) {};
  expect_fault(faulty, "gather");
  faulty = moedge::SCALAR;
  faulty.attention.weigh = [](float* scores, int64_t n, float largest, int m, int together, uint8_t* group) {
    return moedge::SCALAR.attention.weigh(scores, n, largest + 1, m, together, group);
  };
  expect_fault(faulty, "weigh");
  faulty = moedge::SCALAR;
  faulty.attention.pack_values = [](const moedge::CacheRows&, int64_t, int64_t, int64_t, const moedge::Tiles&, int64_t,
                                    uint8_t*, int64_t) {};
  expect_fault(faulty, "pack_values");
  faulty = moedge::SCALAR;
  faulty.mixers.convolve = [](const moedge::Convolved&, int64_t, int64_t, float*, float*) {};
  expect_fault(faulty, "convolve");
  faulty = moedge::SCALAR;
  faulty.recurrent.delta_rule = [](const moedge::DeltaRule&) {};
  expect_fault(faulty, "delta_rule");
  faulty = moedge::SCALAR;
  faulty.recurrent.time_steps = [](const moedge::TimeSteps&, float, int64_t, float*, float*) {};
  expect_fault(faulty, "time_steps");
}

}  // namespace check
