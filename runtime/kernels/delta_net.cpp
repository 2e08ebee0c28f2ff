// Each job takes a head of a timeline through all of its tokens, some at a time: what they need is made of them, then
// some columns of the state after others go through them.

#include "delta_net.h"

namespace moedge {
namespace {

constexpr int64_t PIECE = 16;  // tokens

// A job's room.
struct DeltaRoom {
  float *keep, *keys, *queries, *kept_keys, *kept_queries;  // [PIECE, key_dim]
  float *products, *betas, *decays;                         // [PIECE]
  float *values, *out;                                      // [PIECE, padded(value_dim)]
  float* state;                                             // [key_dim, padded(value_dim)]

  static size_t bytes(const DeltaNet& net, int64_t tokens) {
    return (tokens * (5 * net.key_dim + 3 + 2 * padded(net.value_dim)) + net.key_dim * padded(net.value_dim)) * 4;
  }
  DeltaRoom(const DeltaNet& net, int64_t tokens, Scratch& own) {
    for (float** rows : {&keep, &keys, &queries, &kept_keys, &kept_queries})
      *rows = own.take<float>(tokens * net.key_dim);
    for (float** numbers : {&products, &betas, &decays}) *numbers = own.take<float>(tokens);
    values = own.take<float>(tokens * padded(net.value_dim));
    out = own.take<float>(tokens * padded(net.value_dim));
    state = own.take<float>(net.key_dim * padded(net.value_dim));
  }
};

class Head {
 public:
  Head(const Kernels& kernels, const DeltaNet& net, const DeltaTokens& given, int64_t head, const DeltaRoom& room)
      : kernels_(kernels), net_(net), given_(given), head_(head), room_(room) {}

  // Tokens first ... first + count - 1, with the state as `DeltaRule` has it.
  void run(int64_t first, int64_t count, const float* from, float* to, float* out) const {
    forget(first, count);
    for (int64_t t = 0; t < count; t++) take_token(first + t, t);
    kernels_.recurrent.sigmoid(room_.betas, count);
    DeltaRule rule{};
    rule.tokens = count, rule.rows = net_.key_dim, rule.columns = net_.value_dim, rule.stride = net_.key_dim;
    rule.keep = room_.keep, rule.keys = room_.keys, rule.values = room_.values, rule.steps = room_.betas;
    rule.out = room_.out, rule.from = from, rule.to = to, rule.room = room_.state;
    rule.kept_keys = room_.kept_keys, rule.kept_queries = room_.kept_queries, rule.products = room_.products;
    kernels_.recurrent.delta_rule(rule);
    for (int64_t t = 0; t < count; t++) {
      const int64_t at = (first + t) * net_.values() + head_ * net_.value_dim;
      float* row = room_.out + t * padded(net_.value_dim);
      kernels_.attention.normalize(row, net_.norm, net_.value_dim, net_.eps);
      kernels_.recurrent.gate(net_.silu, given_.gate + at, net_.value_dim, row);
      memcpy(out + at, row, net_.value_dim * 4);
    }
  }

 private:
  void forget(int64_t first, int64_t count) const {
    const int64_t n = net_.key_dim;
    const auto& k = kernels_.recurrent;
    if (net_.per_channel) {
      for (int64_t t = 0; t < count; t++) {
        const float *raw = given_.decay + (first + t) * net_.decays() + head_ * n, *shift = net_.shift + head_ * n;
        float* sum = room_.kept_keys;  // which nothing is in yet
        for (int64_t i = 0; i < n; i++) sum[i] = raw[i] + shift[i];
        k.forget(net_.forgetting, net_.rates[head_], sum, n, room_.keep + t * n);
      }
      return;
    }
    float* kept = room_.products;
    for (int64_t t = 0; t < count; t++)
      room_.decays[t] = given_.decay[(first + t) * net_.decays() + head_] + net_.shift[head_];
    k.forget(net_.forgetting, net_.rates[head_], room_.decays, count, kept);
    for (int64_t t = 0; t < count; t++)
      for (int64_t i = 0; i < n; i++) room_.keep[t * n + i] = kept[t];
  }

  void take_token(int64_t token, int64_t t) const {
    const int64_t n = net_.key_dim, key_head = head_ / (net_.value_heads / net_.key_heads);
    const float* mixed = given_.mixed + token * net_.columns();
    const auto& k = kernels_.recurrent;
    float *query = room_.queries + t * n, *key = room_.keys + t * n;
    k.set_length(mixed + key_head * n, n, net_.scale, query);
    k.set_length(mixed + net_.keys() + key_head * n, n, 1, key);
    room_.products[t] =
        k.keep_rows(room_.keep + t * n, key, query, n, room_.kept_keys + t * n, room_.kept_queries + t * n);
    room_.betas[t] = given_.beta[token * net_.value_heads + head_];
    float* value = room_.values + t * padded(net_.value_dim);
    memcpy(value, mixed + 2 * net_.keys() + head_ * net_.value_dim, net_.value_dim * 4);
    memset(value + net_.value_dim, 0, (padded(net_.value_dim) - net_.value_dim) * 4);
  }

  const Kernels& kernels_;
  const DeltaNet& net_;
  const DeltaTokens& given_;
  int64_t head_;
  const DeltaRoom& room_;
};

}  // namespace

bool run_delta_net(const Kernels& kernels, const Threads& threads, const DeltaNet& net, const DeltaTokens& given,
                   const States& states, float* memory, float* out) {
  std::atomic<bool> enough{true};
  threads.each((size_t)(states.count * net.value_heads), [&](size_t job) {
    const int64_t i = (int64_t)job / net.value_heads, head = (int64_t)job % net.value_heads;
    const int64_t count = states.segments[i].count, begin = states.begin(i), size = net.key_dim * net.value_dim;
    const float* read = memory + states.rows[i].read * net.state() + head * size;
    float* written = memory + states.rows[i].written * net.state() + head * size;
    if (count == 0) {
      memcpy(written, read, size * 4);
      return;
    }
    const int64_t piece = count < PIECE ? count : PIECE;
    thread_local Scratch own;
    if (!own.begin(DeltaRoom::bytes(net, piece))) {
      enough = false;
      return;
    }
    const DeltaRoom room(net, piece, own);
    const Head of(kernels, net, given, head, room);
    for (int64_t t = 0; t < count; t += piece) {
      const int64_t some = count - t < piece ? count - t : piece;
      of.run(begin + t, some, t ? nullptr : read, t + some < count ? nullptr : written, out);
    }
  });
  return enough;
}

}  // namespace moedge
