// Latent attention and short convolutions on made-up rows: all instruction sets and threads give the same bits. Whether
// they are right is for the tests in Python.

#include "check_mixers.h"

#include "convolution.h"
#include "crowd.h"
#include "latent.h"

namespace check {
namespace {

using moedge::Kernels;
using moedge::RowType;
using moedge::Segment;

std::vector<float> make(Random& random, int64_t n, double size) {
  std::vector<float> x(n);
  for (float& each : x) each = (float)(random.value() * size);
  return x;
}

struct Case {
  moedge::Latent latent{};
  RowType type;
  int64_t slots, capacity, row_bytes, tokens = 0;
  std::vector<Segment> segments;
  Matrix up;
  std::vector<uint8_t> rows;
  std::vector<float> plain, q, joined, cos, sin, norm;
};

Case make_case(Random& random) {
  Case c;
  moedge::Latent& l = c.latent;
  const bool large = random.once_in(4);
  const Format format = random_format(random);
  l.heads = random.whole(1, large ? 9 : 4);
  l.nope = random.once_in(2) ? 16 * random.whole(1, 3) : random.whole(1, 40);
  l.v = random.once_in(2) ? 16 * random.whole(1, 3) : random.whole(1, 40);
  l.rope = 2 * random.whole(1, 12);
  l.rank = columns_near(format, random.whole(1, large ? 200 : 70));
  l.scale = 1 / std::sqrt((float)l.key());
  l.eps = 1e-6f;
  l.exact = random.once_in(3);
  l.up = moedge::Tiles(format, l.rows(), l.rank);
  c.up = make_matrix(random, format, l.rows(), l.rank, random.once_in(5));
  if (random.once_in(5)) c.plain = make(random, l.rows() * l.rank, 0.3);
  c.type = (RowType)random.whole(0, 2);
  c.slots = random.whole(1, 3);
  c.capacity = large ? 900 : 120;
  c.row_bytes = moedge::row_bytes_of(c.type, l.width());
  l.switches_at = random.once_in(4) ? random.whole(1, c.capacity) : 0;
  for (int64_t slot = 0; slot < c.slots; slot++) {
    const int64_t count = random.once_in(3) ? 1 : random.whole(0, large ? 150 : 40);
    c.segments.push_back({slot, random.once_in(3) ? 0 : random.whole(0, c.capacity - count), count});
    c.tokens += count;
  }
  c.q = make(random, c.tokens * l.heads * l.key(), 3), c.joined = make(random, c.tokens * l.width(), 3);
  const int64_t angles = (c.capacity + l.switches_at) * (l.rope / 2);
  c.cos = make(random, angles, 1), c.sin = make(random, angles, 1), c.norm = make(random, l.rank, 1);
  c.rows.resize(c.slots * c.capacity * c.row_bytes);
  for (size_t at = 0; at < c.rows.size(); at += c.row_bytes)
    moedge::SCALAR.attention.store(make(random, l.width(), 2).data(), l.width(), c.type, c.rows.data() + at);
  return c;
}

struct Given {
  std::vector<float> out;
  std::vector<uint8_t> rows;
};

Given run(const Case& c, const Kernels& kernels, Crowd& crowd, bool alone) {
  const moedge::Latent& l = c.latent;
  Given given{std::vector<float>(c.tokens * l.heads * l.v, 1e30f), c.rows};
  const moedge::LatentCache cache{given.rows.data(), c.slots, c.capacity, c.row_bytes, c.type};
  const moedge::LatentWeights weights{c.plain.empty() ? c.up.bytes.data() : nullptr,
                                      c.plain.empty() ? nullptr : c.plain.data(), c.norm.data()};
  const moedge::Tables tables{c.cos.data(), c.sin.data(), (int64_t)c.cos.size() / (l.rope / 2),
                              nullptr,      nullptr,      nullptr};
  const int64_t all = (int64_t)c.segments.size(), step = alone ? 1 : all;
  for (int64_t i = 0, at = 0; i < all; i += step) {
    if (!moedge::run_latent(kernels, crowd.lend(), l, c.q.data() + at * l.heads * l.key(),
                            c.joined.data() + at * l.width(), c.segments.data() + i, step, tables, weights, cache,
                            given.out.data() + at * l.heads * l.v))
      fail("latent attention has not enough memory");
    for (int64_t j = i; j < i + step; j++) at += c.segments[j].count;
  }
  return given;
}

void compare(const Given& found, const Given& wanted, bool rows, const std::string& how) {
  if (!same(found.out.data(), wanted.out.data(), wanted.out.size()))
    fail("latent attention of " + how + ": other bits");
  if (rows && found.rows != wanted.rows) fail("latent rows of " + how + ": other bits");
}

}  // namespace

void check_latent(Random& random) {
  Case c = make_case(random);
  if (!c.tokens) return;
  const bool nowhere = c.latent.exact && random.once_in(4);  // in tiles, it reaches what is multiplied with it
  if (nowhere) c.joined[random.whole(0, (int64_t)c.joined.size() - 1)] = random.once_in(2) ? NAN : INFINITY;
  Crowd crowd{1, Random(random.engine()())};
  const Given wanted = run(c, moedge::SCALAR, crowd, false);
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 5}) {
      crowd.threads = threads;
      compare(run(c, *kernels, crowd, false), wanted, !nowhere, kernels->name);
    }
  compare(run(c, *usable().back(), crowd, true), wanted, !nowhere, "timelines alone");
}

void check_convolution(Random& random) {
  const int64_t hidden = random.whole(1, 1200), kernel = random.whole(1, 6), slots = random.whole(1, 3), capacity = 60;
  std::vector<Segment> segments;
  int64_t tokens = 0;
  for (int64_t slot = 0; slot < slots; slot++) {
    const int64_t count = random.whole(0, 30);
    segments.push_back({slot, random.whole(0, capacity - count), count});
    tokens += count;
  }
  const std::vector<float> joined = make(random, tokens * 3 * hidden, 2), taps = make(random, kernel * hidden, 1);
  const std::vector<float> bias = make(random, hidden, 1), rows = make(random, slots * capacity * hidden, 2);
  const moedge::Convolution convolution{hidden, kernel, taps.data(), random.once_in(2) ? bias.data() : nullptr};
  Crowd crowd{1, Random(random.engine()())};
  std::vector<float> wanted(tokens * hidden), after(rows);
  moedge::run_convolution(moedge::SCALAR, crowd.lend(), convolution, joined.data(), segments.data(), slots,
                          {after.data(), capacity}, wanted.data());
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 3}) {
      crowd.threads = threads;
      std::vector<float> found(tokens * hidden), mine(rows);
      moedge::run_convolution(*kernels, crowd.lend(), convolution, joined.data(), segments.data(), slots,
                              {mine.data(), capacity}, found.data());
      if (!same(found.data(), wanted.data(), wanted.size()) || !same(mine.data(), after.data(), after.size()))
        fail(std::string("a convolution of ") + kernels->name + ": other bits");
    }
}

}  // namespace check
