// Routers, norms, and products with biases, gates, shares and sums, on made-up weights: all instruction sets, threads
// and batches give the same bits. Whether routers are right is for the tests in Python.

#include "check_products.h"

#include "crowd.h"
#include "linear.h"
#include "norm.h"
#include "router.h"

namespace check {
namespace {

using moedge::Kernels;
using moedge::Tiles;

std::vector<float> make(Random& random, int64_t n, double size) {
  std::vector<float> x(n);
  for (float& each : x) each = (float)(random.value() * size);
  return x;
}

void compare(const std::vector<float>& found, const std::vector<float>& wanted, const std::string& what) {
  if (!same(found.data(), wanted.data(), wanted.size())) fail(what + ": other bits");
}

}  // namespace

void check_router(Random& random) {
  const bool large = random.once_in(4);
  moedge::Router r{};
  r.groups = random.once_in(2) ? random.whole(1, 4) : 1;
  r.experts = r.groups * random.whole(1, large ? 100 : 12);
  r.hidden = random.whole(1, large ? 700 : 70);
  r.chosen = random.whole(1, std::min<int64_t>(r.experts, 6));
  r.scoring = (moedge::Scoring)random.whole(0, 3);
  r.normalize = random.once_in(2);
  r.eps = random.once_in(2) ? 1e-20f : 0;
  r.least_sum = random.once_in(3) ? 0.3f : 0;
  r.jitter = 0.1f;
  r.softcap = random.once_in(3) ? (float)random.whole(1, 30) : 0;
  r.open_groups = random.whole(1, r.groups);
  r.group_best = random.whole(1, 2);
  const std::vector<float> weight = make(random, r.experts * r.hidden, random.once_in(4) ? 20 : 0.3);
  const std::vector<float> bias = make(random, r.experts, 1), correction = make(random, r.experts, 1);
  r.weight = weight.data();
  r.bias = random.once_in(2) ? bias.data() : nullptr;
  r.correction = random.once_in(2) ? correction.data() : nullptr;
  const int64_t tokens = random.whole(1, large ? 70 : 20), n = tokens * r.experts;
  std::vector<float> x = make(random, tokens * r.hidden, 2);
  if (random.once_in(8)) x[random.whole(0, (int64_t)x.size() - 1)] = random.once_in(2) ? NAN : INFINITY;
  if (random.once_in(8)) std::fill(x.begin(), x.end(), 0.0f);  // equal scores

  Crowd crowd{1, Random(random.engine()())};
  std::vector<float> select(n, 1e30f), weigh(n, 1e30f);
  moedge::run_router(moedge::SCALAR, crowd.lend(), r, x.data(), tokens, select.data(), weigh.data());
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 5}) {
      crowd.threads = threads;
      std::vector<float> found(n, 1e30f), weights(n, 1e30f);
      const int64_t step = random.once_in(2) ? tokens : random.whole(1, tokens);
      for (int64_t t = 0; t < tokens; t += step)
        if (!moedge::run_router(*kernels, crowd.lend(), r, &x[t * r.hidden], std::min(step, tokens - t),
                                &found[t * r.experts], &weights[t * r.experts]))
          fail("a router has not enough memory");
      compare(found, select, std::string("what a router of ") + kernels->name + " selects by");
      compare(weights, weigh, std::string("what a router of ") + kernels->name + " counts");
    }
}

// A product's parts one after the other, against all of them at once.
void check_parts(Random& random) {
  const Format format = random_format(random);
  const bool large = random.once_in(5), active = !random.once_in(3);
  static constexpr moedge::Gate GATES[] = {moedge::Gate::swiglu, moedge::Gate::geglu_tanh, moedge::Gate::relu2};
  const moedge::Activation activation{GATES[random.whole(0, 2)], 1, 0, 0};
  const bool gated = active && activation.gated();
  const int64_t columns = columns_near(format, random.whole(1, large ? 300 : 100));
  const int64_t rows = random.whole(1, large ? 300 : 50), m = random.whole(1, large ? 40 : 10);
  const int planes = random.once_in(3) ? (int)random.whole(2, 3) : 1, sides = gated ? 2 : 1;
  const std::vector<float> x = make(random, m * columns, 3);
  std::vector<uint8_t> bytes;
  std::vector<Matrix> matrices;
  for (int side = 0; side < sides; side++)
    matrices.push_back(make_matrix(random, format, rows, columns, random.once_in(4)));
  for (int64_t t = 0; t < (rows + 15) / 16; t++)
    for (const Matrix& matrix : matrices)
      bytes.insert(bytes.end(), matrix.bytes.begin() + t * matrix.record,
                   matrix.bytes.begin() + (t + 1) * matrix.record);
  const std::vector<float> bias = make(random, rows * sides, 1), share = make(random, m, 2);
  const std::vector<float> onto = make(random, m * rows, 2);
  const Tiles tiles(format, rows, columns);
  const moedge::Linear linear{gated ? Tiles(format, (rows + 15) / 16 * 32, columns) : tiles,
                              rows,
                              active,
                              activation,
                              planes,
                              bytes.data(),
                              random.once_in(2) ? bias.data() : nullptr,
                              random.once_in(2) ? share.data() : nullptr,
                              random.once_in(2) ? onto.data() : nullptr};

  Crowd crowd{1, Random(random.engine()())};
  std::vector<std::vector<float>> products;
  for (int side = 0; side < sides; side++) {
    std::vector<float>& y = products.emplace_back(m * rows);
    moedge::multiply_matrix(moedge::SCALAR, crowd.lend(), tiles, matrices[side].bytes.data(), x.data(), m, planes,
                            y.data());
    for (int64_t i = 0; linear.bias && i < m * rows; i++) y[i] += bias[i % rows * sides + side];
  }
  std::vector<float> wanted = products[0];
  if (active) moedge::SCALAR.activate(activation, wanted.data(), products.back().data(), m * rows);
  for (int64_t i = 0; i < m * rows; i++) {
    if (linear.share) wanted[i] = share[i / rows] * wanted[i];
    if (linear.onto) wanted[i] = onto[i] + wanted[i];
  }
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 5}) {
      crowd.threads = threads;
      std::vector<float> found(m * rows, 1e30f);
      const int64_t step = random.once_in(2) ? m : random.whole(1, m);
      for (int64_t i = 0; i < m; i += step) {
        moedge::Linear some = linear;
        if (some.share) some.share += i;
        if (some.onto) some.onto += i * rows;
        if (!moedge::run_linear(*kernels, crowd.lend(), some, &x[i * columns], std::min(step, m - i), &found[i * rows]))
          fail("a product has not enough memory");
      }
      compare(found, wanted, std::string("the parts of a product of ") + kernels->name);
    }
}

void check_norm(Random& random) {
  const int64_t hidden = random.whole(1, random.once_in(4) ? 700 : 70), tokens = random.whole(1, 70);
  const std::vector<float> x = make(random, tokens * hidden, 2), delta = make(random, tokens * hidden, 2);
  const std::vector<float> weight = make(random, hidden, 1);
  const moedge::AddNorm norm{hidden, 1e-6f, weight.data()};
  Crowd crowd{1, Random(random.engine()())};
  std::vector<float> wanted(tokens * hidden), total(tokens * hidden);
  moedge::add_and_norm(moedge::SCALAR, crowd.lend(), norm, x.data(), delta.data(), tokens, wanted.data(), total.data());
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 5}) {
      crowd.threads = threads;
      std::vector<float> found(tokens * hidden, 1e30f), sum(tokens * hidden, 1e30f);
      const int64_t step = random.once_in(2) ? tokens : random.whole(1, tokens);
      for (int64_t t = 0, at = 0; t < tokens; t += step, at = t * hidden)
        moedge::add_and_norm(*kernels, crowd.lend(), norm, &x[at], &delta[at], std::min(step, tokens - t), &found[at],
                             &sum[at]);
      compare(sum, total, std::string("a residual sum of ") + kernels->name);
      compare(found, wanted, std::string("a norm of ") + kernels->name);
    }
}

}  // namespace check
