// check [SEED] [CASES]: everything that the kernel library computes, on made-up weights, for each instruction set here.
//
// Case number i is made from SEED + i alone. Results must have the same bits whatever the instruction set, the threads,
// the order of their jobs and the batch, and lie as near to those of double precision as rounding activations allows.

#include <cstdio>
#include <numeric>
#include <string>

#include "check_attention.h"
#include "check_mixers.h"
#include "check_products.h"
#include "check_recurrent.h"
#include "crowd.h"
#include "linear.h"
#include "self_check.h"

namespace check {
namespace {

using moedge::Kernels;
using moedge::Tiles;

void compare(const std::vector<float>& found, const std::vector<float>& wanted, const char* what,
             const Kernels& kernels, size_t threads) {
  if (!same(found.data(), wanted.data(), wanted.size()))
    fail(std::string(what) + " of " + kernels.name + " with " + std::to_string(threads) + " threads: other bits");
}

void compare(const float* found, const Bounded& wanted, const char* what) {
  for (size_t i = 0; i < wanted.value.size(); i++)
    if (!(std::fabs(found[i] - wanted.value[i]) <= wanted.error[i]))
      fail(std::string(what) + ": " + std::to_string(found[i]) + " at " + std::to_string(i) + " is not " +
           std::to_string(wanted.value[i]) + " within " + std::to_string(wanted.error[i]));
}

// Rows of activations [m, columns]; `nowhere` is a row that has an infinity or what is no number, or -1.
std::vector<float> make_rows(Random& random, int64_t m, int64_t columns, int64_t nowhere, bool many_sizes) {
  std::vector<float> x(m * columns);
  for (int64_t i = 0; i < m; i++) {
    const int mode = (int)random.whole(many_sizes ? 0 : 4, many_sizes ? 7 : 13);
    for (int64_t k = 0; k < columns; k++) x[i * columns + k] = random.activation(mode);
  }
  if (nowhere >= 0) x[nowhere * columns + random.whole(0, columns - 1)] = random.once_in(2) ? NAN : -INFINITY;
  return x;
}

Bounded exact(const float* x, int64_t n) { return {std::vector<double>(x, x + n), std::vector<double>(n)}; }

void check_linear(Random& random) {
  const Format format = random_format(random);
  const bool large = random.once_in(5);
  const int planes = random.once_in(3) ? (int)random.whole(2, 3) : 1;
  const int64_t columns = columns_near(format, random.whole(1, large ? 400 : 100));
  const int64_t rows = random.whole(1, large ? 300 : 50), m = random.whole(1, large ? 40 : 10);
  const int64_t nowhere = random.once_in(8) ? random.whole(0, m - 1) : -1;
  const Matrix matrix = make_matrix(random, format, rows, columns, random.once_in(4));
  const Tiles tiles(format, rows, columns);
  if (tiles.bytes != matrix.record) fail("a record has another length than the layout says");
  const std::vector<float> x = make_rows(random, m, columns, nowhere, true);

  std::vector<float> wanted(m * rows), found(m * rows), alone(rows);
  Crowd crowd{1, Random(random.engine()())};
  moedge::multiply_matrix(moedge::SCALAR, crowd.lend(), tiles, matrix.bytes.data(), x.data(), m, planes, wanted.data());
  for (int64_t i = 0; i < m; i++)
    if (i != nowhere) compare(&wanted[i * rows], product(matrix, exact(&x[i * columns], columns), planes), "a product");
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 3, 8}) {
      crowd.threads = threads;
      std::fill(found.begin(), found.end(), 1e30f);
      moedge::multiply_matrix(*kernels, crowd.lend(), tiles, matrix.bytes.data(), x.data(), m, planes, found.data());
      compare(found, wanted, "a product", *kernels, threads);
      const int64_t i = random.whole(0, m - 1);
      moedge::multiply_matrix(*kernels, crowd.lend(), tiles, matrix.bytes.data(), &x[i * columns], 1, planes,
                              alone.data());
      compare(alone, {&wanted[i * rows], &wanted[i * rows] + rows}, "a row alone", *kernels, threads);
    }

  std::vector<int64_t> ids(m);
  for (int64_t& id : ids) id = random.whole(0, rows - 1);
  std::vector<float> gathered(m * columns);
  if (moedge::gather_rows(tiles, matrix.bytes.data(), ids.data(), m, gathered.data())) fail("rows are not gathered");
  for (int64_t i = 0; i < m; i++) {
    const double* weights = &matrix.weights[ids[i] * columns];
    Bounded row{std::vector<double>(weights, weights + columns), {}};
    for (const double weight : row.value) row.error.push_back(std::fabs(weight) * 3e-7 + 1e-44);
    compare(&gathered[i * columns], row, "a gathered row");
  }
  ids[random.whole(0, m - 1)] = random.once_in(2) ? rows : -1;
  if (!moedge::gather_rows(tiles, matrix.bytes.data(), ids.data(), m, gathered.data()))
    fail("a row beyond is gathered");

  for (const Kernels* kernels : usable())
    for (int together = 1; together <= kernels->together; together++)
      if (const char* fault =
              moedge::check_case(*kernels, format, columns, together, (uint32_t)random.whole(1, 1 << 30)))
        fail(std::string(kernels->name) + ", " + std::to_string(together) + " rows: " + fault);
}

void check_activations(Random& random) {
  const Activation how{(Gate)random.whole(0, 4), random.once_in(2) ? 1.0f : 1.702f, (float)random.whole(0, 1),
                       random.once_in(2) ? 0.0f : 2.5f};
  const int64_t n = random.whole(1, 100);
  const double size = random.once_in(4) ? 200 : 4;
  std::vector<float> gate(n), up(n);
  for (float& g : gate) g = (float)(random.value() * size);
  for (float& u : up) u = (float)(random.value() * 4);
  Bounded exact{std::vector<double>(n), std::vector<double>(n)};
  for (int64_t i = 0; i < n; i++) activate(how, gate[i], 0, up[i], 0, exact.value[i], exact.error[i]);
  std::vector<float> wanted = gate;
  moedge::SCALAR.activate(how, wanted.data(), up.data(), n);
  compare(wanted.data(), exact, "an activation");
  for (const Kernels* kernels : usable()) {
    std::vector<float> found = gate;
    kernels->activate(how, found.data(), up.data(), n);
    compare(found, wanted, "an activation", *kernels, 1);
  }
}

// A layer's experts with their matrices apart, as the reference reads them, and in the order that the library reads.
struct Layer {
  moedge::Experts experts;
  std::vector<Matrix> gates, ups, downs;
  std::vector<uint8_t> first, second;
  std::vector<float> first_bias, second_bias;
};

Layer make_layer(Random& random, bool large) {
  Layer layer;
  moedge::Experts& e = layer.experts;
  const Format format = random_format(random);
  e.count = random.whole(1, large ? 12 : 5);
  e.chosen = random.whole(1, std::min<int64_t>(e.count, 4));
  e.hidden = columns_near(format, random.whole(1, large ? 200 : 70));
  e.inner = columns_near(format, random.whole(1, large ? 150 : 70));
  e.activation = {(Gate)random.whole(0, 4), random.once_in(2) ? 1.0f : 1.702f, (float)random.whole(0, 1),
                  random.once_in(2) ? 0.0f : 0.7f};
  e.routing_scale = random.once_in(2) ? 1.0f : 2.5f;
  e.first = Tiles(format, e.inner * e.matrices(), e.hidden);
  e.second = Tiles(format, e.hidden, e.inner);
  const bool extreme = random.once_in(6);
  for (int64_t i = 0; i < e.count; i++) {
    layer.gates.push_back(make_matrix(random, format, e.inner, e.hidden, extreme));
    layer.ups.push_back(make_matrix(random, format, e.inner, e.hidden, extreme));
    layer.downs.push_back(make_matrix(random, format, e.hidden, e.inner, extreme));
    const Matrix* sides[2] = {&layer.gates.back(), &layer.ups.back()};
    for (int64_t p = 0; p < e.inner_tiles(); p++)
      for (int64_t side = 0; side < e.matrices(); side++) {
        const auto begin = sides[side]->bytes.begin() + p * sides[side]->record;
        layer.first.insert(layer.first.end(), begin, begin + sides[side]->record);
      }
    layer.second.insert(layer.second.end(), layer.downs.back().bytes.begin(), layer.downs.back().bytes.end());
  }
  if (random.once_in(2))
    for (int64_t i = 0; i < e.count * e.inner * e.matrices(); i++) layer.first_bias.push_back((float)random.value());
  if (random.once_in(2))
    for (int64_t i = 0; i < e.count * e.hidden; i++) layer.second_bias.push_back((float)random.value());
  return layer;
}

Bounded expect_token(const Layer& layer, const float* x, const float* select, const float* weigh) {
  const moedge::Experts& e = layer.experts;
  auto score = [&](int64_t i) { return std::isnan(select[i]) ? -INFINITY : (double)select[i]; };
  std::vector<int64_t> order(e.count);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return score(a) > score(b); });
  order.resize(e.chosen);
  double sum = 0;
  auto raw = [&](int64_t i) { return score(order[0]) == -INFINITY ? 1 : std::exp(score(i) - score(order[0])); };
  for (const int64_t i : order) sum += raw(i);
  const Bounded rounded = exact(x, e.hidden);
  Bounded out{std::vector<double>(e.hidden), std::vector<double>(e.hidden)};
  for (const int64_t i : order) {
    const double share = (weigh ? weigh[i] : raw(i) / sum) * e.routing_scale;
    const Bounded g = product(layer.gates[i], rounded, 1), u = product(layer.ups[i], rounded, 1);
    Bounded h{std::vector<double>(e.inner), std::vector<double>(e.inner)};
    const float* bias = layer.first_bias.empty() ? nullptr : &layer.first_bias[i * e.inner * e.matrices()];
    for (int64_t n = 0; n < e.inner; n++) {
      const double gate = g.value[n] + (bias ? bias[n * e.matrices()] : 0);
      const double up = u.value[n] + (bias && e.activation.gated() ? bias[n * 2 + 1] : 0);
      activate(e.activation, gate, g.error[n], up, u.error[n], h.value[n], h.error[n]);
    }
    const Bounded down = product(layer.downs[i], h, 1);
    for (int64_t n = 0; n < e.hidden; n++) {
      const double value = down.value[n] + (layer.second_bias.empty() ? 0 : layer.second_bias[i * e.hidden + n]);
      out.value[n] += share * value;
      out.error[n] += std::fabs(share) * (down.error[n] + 1e-5 * std::fabs(value)) + 1e-6;
    }
  }
  return out;
}

void check_experts(Random& random) {
  const bool large = random.once_in(5);
  Layer layer = make_layer(random, large);
  moedge::Experts& e = layer.experts;
  e.first_weights = layer.first.data(), e.second_weights = layer.second.data();
  e.first_bias = layer.first_bias.empty() ? nullptr : layer.first_bias.data();
  e.second_bias = layer.second_bias.empty() ? nullptr : layer.second_bias.data();
  const int64_t tokens = random.once_in(4) ? 1 : random.whole(1, large ? 40 : 10);
  const int64_t nowhere = random.once_in(8) ? random.whole(0, tokens - 1) : -1;
  const std::vector<float> x = make_rows(random, tokens, e.hidden, nowhere, false);
  std::vector<float> select(tokens * e.count), weigh;
  const bool ties = random.once_in(3);  // and with many tokens, experts that nobody goes to
  for (float& score : select) {
    score = ties ? (float)random.whole(-2, 2) : 5 * (float)random.value();
    if (random.once_in(20)) score = NAN;
  }
  if (random.once_in(2))
    for (size_t i = 0; i < select.size(); i++) weigh.push_back((float)random.value());
  if (random.once_in(3))
    for (int64_t t = 0; t < tokens; t++) select[t * e.count + random.whole(0, e.count - 1)] = 9;
  const float* shares = weigh.empty() ? nullptr : weigh.data();

  std::vector<float> wanted(tokens * e.hidden), found(tokens * e.hidden), alone(e.hidden);
  std::vector<int64_t> told(e.count);
  const moedge::Chosen listener{
      [](void* counts, int64_t expert, int64_t n) { (*static_cast<std::vector<int64_t>*>(counts))[expert] += n; },
      &told};
  Crowd crowd{1, Random(random.engine()())};
  moedge::run_experts(moedge::SCALAR, crowd.lend(), e, x.data(), select.data(), shares, tokens, listener,
                      wanted.data());
  if (std::accumulate(told.begin(), told.end(), int64_t{0}) != tokens * e.chosen) fail("experts are not told");
  for (int64_t t = 0; t < tokens; t++)
    if (t != nowhere)
      compare(&wanted[t * e.hidden],
              expect_token(layer, &x[t * e.hidden], &select[t * e.count], shares ? shares + t * e.count : nullptr),
              "experts");
  for (const Kernels* kernels : usable())
    for (const size_t threads : {1, 2, 3, 8}) {
      crowd.threads = threads;
      std::fill(found.begin(), found.end(), 1e30f);
      moedge::run_experts(*kernels, crowd.lend(), e, x.data(), select.data(), shares, tokens, listener, found.data());
      compare(found, wanted, "experts", *kernels, threads);
      const int64_t t = random.whole(0, tokens - 1);
      moedge::run_experts(*kernels, crowd.lend(), e, &x[t * e.hidden], &select[t * e.count],
                          shares ? shares + t * e.count : nullptr, 1, listener, alone.data());
      compare(alone, {&wanted[t * e.hidden], &wanted[t * e.hidden] + e.hidden}, "a token alone", *kernels, threads);
    }
}

}  // namespace
}  // namespace check

int main(int count, char** words) {
  const unsigned long long seed = count > 1 ? strtoull(words[1], nullptr, 10) : 1;
  const unsigned long long cases = count > 2 ? strtoull(words[2], nullptr, 10) : 100;
  printf("tried:");
  for (const moedge::Kernels* kernels : check::usable()) printf(" %s", kernels->name);
  puts("");
  for (const moedge::Kernels* kernels : check::usable())
    if (const char* fault = moedge::check_kernels(*kernels)) return printf("%s: %s\n", kernels->name, fault), 1;
  for (unsigned long long i = seed; i < seed + cases; i++) try {
      if (i == seed) check::check_chosen_attention();
      check::Random random(i);
      check::check_linear(random);
      check::check_activations(random);
      check::check_parts(random);
      check::check_norm(random);
      check::check_router(random);
      check::check_experts(random);
      check::check_attention(random);
      check::check_latent(random);
      check::check_convolution(random);
      check::check_recurrent(random);
    } catch (const std::runtime_error& fault) {
      printf("%s (again with: check %llu 1)\n", fault.what(), i);
      return 1;
    }
  printf("%llu cases from %llu on: the same bits, and near to double precision\n", cases, seed);
  return 0;
}
