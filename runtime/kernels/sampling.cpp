// Choosing a token: few of many matter, and are found by the maxima of groups; sums are in the order of numpy's cumsum.

#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "kernels.h"

namespace moedge {
namespace {

constexpr int64_t MOST = 4096;         // tokens that are looked at one by one
constexpr int64_t HEAD = 256;          // tokens among which a nucleus is looked for
constexpr int64_t MOST_SORTED = 8192;  // logits of a vocabulary that are put in order

// e^x for x <= 0, in the operations of `distribution.py`.
double exponential(double x) {
  const double held = x > -700.0 ? x : -700.0;
  const double whole = (held * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0;
  const double f = (held - whole * 6.93147180369123816490e-01) - whole * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  for (const double factorial :
       {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0})
    p = p * f + 1.0 / factorial;
  const uint64_t bits = (uint64_t)((int64_t)whole + 1023) << 52;
  double power;
  std::memcpy(&power, &bits, 8);
  return x >= -700.0 ? p * power : 0.0;
}

// The n-th largest, from 1 on; values are put in another order.
float nth_largest(float* values, int64_t count, int64_t n) {
  std::nth_element(values, values + n - 1, values + count, std::greater<float>());
  return values[n - 1];
}

// Some tokens, ascending, with what is made of them.
struct Chosen {
  int64_t count = 0;
  int32_t* ids;
  float *values, *spare;
  double *weights, *p;

  template <class Keep>
  void keep(Keep&& kept) {
    int64_t to = 0;
    for (int64_t i = 0; i < count; i++) {
      if (!kept(i)) continue;
      ids[to] = ids[i], values[to] = values[i], weights[to] = weights[i], p[to] = p[i];
      to++;
    }
    count = to;
  }
  void read(const float* logits) {
    for (int64_t i = 0; i < count; i++) values[i] = logits[ids[i]];
  }
  void weigh(float top, double temperature) {
    for (int64_t i = 0; i < count; i++) weights[i] = exponential((double)(values[i] - top) / temperature);
  }
  static double add_up(const double* numbers, int64_t count) {
    double sum = numbers[0];
    for (int64_t i = 1; i < count; i++) sum += numbers[i];
    return sum;
  }
  void divide(double sum) {
    for (int64_t i = 0; i < count; i++) p[i] = weights[i] / sum;
  }
  float nth(int64_t n) {
    std::copy(values, values + count, spare);
    return nth_largest(spare, count, n);
  }
  // The smallest set of likeliest ones that holds `mass`; `room` [count] is used.
  void keep_nucleus(double mass, double* room) {
    std::copy(p, p + count, room);
    std::sort(room, room + count, std::greater<double>());
    int64_t wanted = 1;
    for (double sum = room[0]; wanted < count && !(sum >= mass); wanted++) sum += room[wanted];
    // one more than stand before the one that reaches it, all of them if none does
    const float least = nth(wanted);
    int64_t ties = wanted - std::count_if(values, values + count, [&](float value) { return value > least; });
    keep([&](int64_t i) { return values[i] > least || (values[i] == least && ties-- > 0); });
  }
};

struct Search {
  const Choice& wish;
  const ChoiceKernels& kernels;
  const float* logits;
  const int64_t size, groups;
  float *maxima, *spare;
  double *sums, *sorted;
  Chosen found;
  float top;

  Search(const Choice& choice, const ChoiceKernels& made_of, const float* read)
      : wish(choice), kernels(made_of), logits(read), size(choice.size), groups(size / GROUP_LOGITS) {
    char* at = choice.work;
    const auto take = [&](auto*& pointer, int64_t count) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(at);
      at += count * (int64_t)sizeof(*pointer);
    };
    take(sums, size / BLOCK_WEIGHTS + 1);
    take(sorted, MOST);
    take(found.weights, MOST);
    take(found.p, MOST);
    take(found.ids, MOST);
    take(found.values, MOST);
    take(found.spare, MOST);
    take(maxima, groups);
    take(spare, groups);
  }

  // The largest; whether all are numbers and it is finite.
  bool look() {
    bool sound = kernels.find_maxima(logits, groups, maxima);
    top = -INFINITY;
    for (int64_t g = 0; g < groups; g++) top = std::max(top, maxima[g]);
    for (int64_t i = groups * GROUP_LOGITS; i < size; i++) {
      sound = sound && logits[i] == logits[i];
      top = std::max(top, logits[i]);
    }
    return sound && std::isfinite(top);
  }

  // The first of the largest.
  int64_t first() const {
    int64_t id = std::find(logits + groups * GROUP_LOGITS, logits + size, top) - logits;
    for (int64_t g = 0; g < groups; g++)
      if (maxima[g] == top)
        for (int64_t i = g; i < id; i += groups)
          if (logits[i] == top) id = i;
    return id;
  }

  bool collect(float minus, float least) {
    found.count = kernels.collect(logits, size, minus, least, found.ids, MOST);
    if (found.count < 0) return false;
    found.read(logits);
    return true;
  }

  bool find_more(int64_t count) {
    if (count <= groups / 2) {
      std::copy(maxima, maxima + groups, spare);
      return collect(0, nth_largest(spare, groups, count));
    }
    if (size > MOST_SORTED) return false;
    std::copy(logits, logits + size, wish.room);
    return collect(0, nth_largest(wish.room, size, count));
  }

  bool find_top_k() {
    if (!find_more(wish.top_k)) return false;
    if (found.count > wish.top_k) {
      const float least = found.nth(wish.top_k);
      found.keep([&](int64_t i) { return found.values[i] >= least; });
    }
    found.keep([&](int64_t i) { return found.values[i] - top >= wish.lowest; });
    found.weigh(top, wish.temperature);
    if (wish.top_p < 1) {
      found.divide(Chosen::add_up(found.weights, found.count));
      found.keep_nucleus(wish.top_p, sorted);
    }
    return true;
  }

  double add_up_all() {
    const int64_t whole = size / BLOCK_WEIGHTS, left = size % BLOCK_WEIGHTS;
    kernels.sum_blocks(wish.room, whole, sums);
    float rest[BLOCK_WEIGHTS] = {};
    std::copy(wish.room + size - left, wish.room + size, rest);
    kernels.sum_blocks(rest, 1, sums + whole);
    return Chosen::add_up(sums, whole + 1);
  }

  bool find_nucleus() {
    if (size <= HEAD) {
      if (!collect(top, wish.lowest)) return false;
      found.weigh(top, wish.temperature);
      found.divide(Chosen::add_up(found.weights, found.count));
    } else {
      if (!find_more(HEAD)) return false;
      found.weigh(top, wish.temperature);
      kernels.weigh_all(logits, size, top, wish.factor, wish.room);
      for (int64_t i = 0; i < found.count; i++) wish.room[found.ids[i]] = 0;
      found.divide(Chosen::add_up(found.weights, found.count) + add_up_all());
      if (!(Chosen::add_up(found.p, found.count) >= wish.top_p)) return false;
    }
    found.keep_nucleus(wish.top_p, sorted);
    return true;
  }

  int64_t draw() {
    if (wish.min_p > 0) {
      const double least = wish.min_p * *std::max_element(found.weights, found.weights + found.count);
      found.keep([&](int64_t i) { return found.weights[i] >= least; });
    }
    found.divide(Chosen::add_up(found.weights, found.count));
    int64_t i = 0;
    for (double end = found.p[0]; i + 1 < found.count && !(end > wish.chance); end += found.p[i]) i++;
    return found.ids[i];
  }

  int64_t draw_from_all() {
    kernels.weigh_all(logits, size, top, wish.factor, wish.room);
    const double place = wish.chance * add_up_all();
    const int64_t blocks = size / BLOCK_WEIGHTS + 1;
    int64_t last = blocks - 1, block = 0;
    while (!(sums[last] != 0)) last--;
    double before = 0;
    for (double end = sums[0]; block < last && !(end > place); end += sums[block]) before = end, block++;
    const float* within = wish.room + block * BLOCK_WEIGHTS;
    int64_t i = 0, most = std::min((int64_t)BLOCK_WEIGHTS, size - block * BLOCK_WEIGHTS) - 1;
    while (!(within[most] != 0)) most--;
    for (double end = within[0]; i < most && !(end > place - before); end += within[i]) i++;
    return block * BLOCK_WEIGHTS + i;
  }
};

// Logits with the penalties as long as this lives, and as they were afterwards: a copy would cost a pass.
class Penalized {
 public:
  Penalized(const Choice& wish, float* logits, const int64_t* seen, const int32_t* counts)
      : logits_(logits), seen_(seen), count_(wish.seen_count) {
    before_ = reinterpret_cast<float*>(wish.work + work_bytes(wish.size)) - wish.size;
    for (int64_t i = 0; i < count_; i++) {
      float value = before_[i] = logits[seen[i]];
      if (wish.repetition != 1) value = value > 0 ? value / wish.repetition : value * wish.repetition;
      const float said = wish.presence + wish.frequency * (float)counts[i];
      logits[seen[i]] = value - (counts[i] > 0 ? said : 0.0f);
    }
  }
  ~Penalized() {
    for (int64_t i = 0; i < count_; i++) logits_[seen_[i]] = before_[i];
  }

 private:
  float *logits_, *before_;
  const int64_t* seen_;
  const int64_t count_;
};

}  // namespace

int64_t work_bytes(int64_t size) {
  return (size / BLOCK_WEIGHTS + 1) * 8 + MOST * (3 * 8 + 3 * 4) + size / GROUP_LOGITS * 8 + size * 4;
}

int64_t choose(const Choice& wish, float* logits, const int64_t* seen, const int32_t* counts) {
  const Kernels* kernels = chosen_kernels();
  if (!kernels) return NOT_CHOSEN;
  const Penalized penalized(wish, logits, seen, counts);
  Search search(wish, kernels->choice, logits);
  if (!search.look()) return NOT_CHOSEN;
  if (wish.temperature == 0) return search.first();
  const bool some = wish.top_k > 0 && wish.top_k < wish.size;
  if (!some && wish.top_p >= 1 && wish.min_p == 0 && !wish.top_k) return search.draw_from_all();
  if (some ? !search.find_top_k() : wish.top_p < 1 ? !search.find_nucleus() : !search.collect(search.top, wish.least))
    return NOT_CHOSEN;
  if (!some && wish.top_p >= 1) search.found.weigh(search.top, wish.temperature);
  return search.draw();
}

}  // namespace moedge
