// The operators `Linear`, `Embedding` and `Experts` of the domain moedge, as ONNX Runtime calls them, and the list of
// all.
//
// docs/kernels.md has their inputs and attributes. The mathematics is in linear.cpp and experts.cpp.

#include <mutex>

#include "experts.h"
#include "linear.h"
#include "operator.h"
#include "operators.h"
#include "usage.h"

namespace moedge {
namespace {

// What a kernel of each operator keeps. `read` takes attributes, `run` computes.
struct LinearKernel {
  static constexpr const char* NAME = "Linear";
  static constexpr size_t INPUTS = 5, FIRST_OPTIONAL = 2;
  static constexpr size_t OUTPUTS = 1, FIRST_OPTIONAL_OUTPUT = 1;
  static int output_type(size_t) { return ort::FLOAT; }
  static int input_type(size_t i) { return i == 1 ? ort::UINT8 : ort::FLOAT; }

  const ort::Api& api;
  Linear shape{};

  LinearKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const ACTIVATIONS[] = {"none", "swiglu", "geglu_tanh", "relu2"};
    static constexpr Gate GATES[] = {Gate::silu, Gate::swiglu, Gate::geglu_tanh, Gate::relu2};
    const Format format = read_format(attributes);
    const int64_t columns = attributes.whole("columns", 1, MOST);
    shape.rows = attributes.whole("rows", 1, MOST / 2 - ROWS);
    const int activation = attributes.word("activation", ACTIVATIONS, 4);
    shape.active = activation > 0;
    shape.activation = {GATES[activation], 1, 0, 0};
    const int64_t bits = attributes.whole("activation_bits", 8, 24);
    if (bits % 8) attributes.refuse("activation_bits");
    shape.tiles =
        read_tiles(attributes, format, shape.pairs() ? (shape.rows + ROWS - 1) / ROWS * ROWS * 2 : shape.rows, columns);
    shape.planes = (int)bits / 8;
  }
  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t sizes[2] = {-1, shape.tiles.columns}, stored[2] = {shape.tiles.count, shape.tiles.bytes};
    int64_t bias[1] = {shape.rows * (shape.pairs() ? 2 : 1)};
    if (!run.shaped(inputs[0], sizes) || !run.shaped(inputs[1], stored) || (inputs[2] && !run.shaped(inputs[2], bias)))
      return refuse(api, NAME, "shapes do not fit");
    int64_t share[2] = {sizes[0], 1}, onto[2] = {sizes[0], shape.rows};
    if ((inputs[3] && !run.shaped(inputs[3], share)) || (inputs[4] && !run.shaped(inputs[4], onto)))
      return refuse(api, NAME, "what is added does not fit");
    Linear linear = shape;
    linear.weights = run.data<const uint8_t>(inputs[1]);
    linear.bias = run.data<const float>(inputs[2]);
    linear.share = run.data<const float>(inputs[3]);
    linear.onto = run.data<const float>(inputs[4]);
    const float* x = run.data<const float>(inputs[0]);
    float* y = run.output(sizes[0], shape.rows);
    if (run.fault()) return run.fault();
    const bool enough = run_linear(*chosen_kernels(), run.threads(), linear, x, sizes[0], y);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }
};

struct EmbeddingKernel {
  static constexpr const char* NAME = "Embedding";
  static constexpr size_t INPUTS = 2, FIRST_OPTIONAL = 2;
  static constexpr size_t OUTPUTS = 1, FIRST_OPTIONAL_OUTPUT = 1;
  static int output_type(size_t) { return ort::FLOAT; }
  static int input_type(size_t i) { return i == 1 ? ort::UINT8 : ort::INT64; }

  const ort::Api& api;
  Tiles tiles;

  EmbeddingKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    const Format format = read_format(attributes);
    const int64_t rows = attributes.whole("rows", 1, MOST), columns = attributes.whole("columns", 1, MOST);
    tiles = read_tiles(attributes, format, rows, columns);
  }
  ort::Status compute(Run& run) {
    int64_t sizes[1] = {-1}, stored[2] = {tiles.count, tiles.bytes};
    const void *ids = run.input(0), *weights = run.input(1);
    if (!run.shaped(ids, sizes) || !run.shaped(weights, stored)) return refuse(api, NAME, "shapes do not fit");
    float* out = run.output(sizes[0], tiles.columns);
    if (run.fault()) return run.fault();
    const char* wrong =
        gather_rows(tiles, run.data<const uint8_t>(weights), run.data<const int64_t>(ids), sizes[0], out);
    return wrong ? refuse(api, NAME, wrong) : run.fault();
  }
};

struct ExpertsKernel {
  static constexpr const char* NAME = "Experts";
  static constexpr size_t INPUTS = 7, FIRST_OPTIONAL = 2;  // `weigh` may be absent, weights behind it may not
  static constexpr size_t OUTPUTS = 1, FIRST_OPTIONAL_OUTPUT = 1;
  static int output_type(size_t) { return ort::FLOAT; }
  static int input_type(size_t i) { return i == 3 || i == 4 ? ort::UINT8 : ort::FLOAT; }

  const ort::Api& api;
  Experts shape;
  int64_t layer;
  uint64_t owner = Usage::owner();
  std::atomic<Usage*> usage{nullptr};

  ExpertsKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const GATES[] = {"swiglu", "geglu_tanh", "geglu_erf", "relu2", "silu"};
    const Format format = read_format(attributes);
    shape.chosen = attributes.whole("k", 1, MOST);
    shape.hidden = attributes.whole("hidden", 1, MOST);
    shape.inner = attributes.whole("inter", 1, MOST);
    shape.activation.gate = (Gate)attributes.word("activation", GATES, 5);
    shape.activation.alpha = attributes.number("alpha");
    shape.activation.beta = attributes.number("beta");
    shape.activation.limit = attributes.number("limit");
    shape.routing_scale = attributes.number("routing_scale");
    shape.first = read_tiles(attributes, format, shape.inner * shape.matrices(), shape.hidden);
    shape.second = read_tiles(attributes, format, shape.hidden, shape.inner);
    layer = attributes.whole("layer", 0, MOST);
  }
  ~ExpertsKernel() { delete usage.load(); }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    if (!inputs[3] || !inputs[4]) return refuse(api, NAME, "weights are missing");
    int64_t x[2] = {-1, shape.hidden};
    if (!run.shaped(inputs[0], x)) return refuse(api, NAME, "hidden states do not fit");
    int64_t scores[2] = {x[0], -1};
    if (!run.shaped(inputs[1], scores) || scores[1] < shape.chosen) return refuse(api, NAME, "scores do not fit");
    const int64_t experts = scores[1];
    int64_t first[3] = {experts, shape.inner_tiles() * shape.matrices(), shape.first.bytes};
    int64_t second[3] = {experts, shape.second.count, shape.second.bytes};
    int64_t first_bias[2] = {experts, shape.inner * shape.matrices()}, second_bias[2] = {experts, shape.hidden};
    if ((inputs[2] && !run.shaped(inputs[2], scores)) || !run.shaped(inputs[3], first) ||
        !run.shaped(inputs[4], second) || (inputs[5] && !run.shaped(inputs[5], first_bias)) ||
        (inputs[6] && !run.shaped(inputs[6], second_bias)))
      return refuse(api, NAME, "weights do not fit");
    Usage& counts = *count_usage(experts);
    if (counts.experts() != experts) return refuse(api, NAME, "the number of experts has changed");
    Experts e = shape;
    e.count = experts;
    e.first_weights = run.data<const uint8_t>(inputs[3]);
    e.second_weights = run.data<const uint8_t>(inputs[4]);
    e.first_bias = run.data<const float>(inputs[5]);
    e.second_bias = run.data<const float>(inputs[6]);
    const float *states = run.data<const float>(inputs[0]), *select = run.data<const float>(inputs[1]);
    float* out = run.output(x[0], shape.hidden);
    if (run.fault()) return run.fault();
    Needed needed{e, counts, pages_were_missing()};
    const bool enough = run_experts(*chosen_kernels(), run.threads(), e, states, select,
                                    run.data<const float>(inputs[2]), x[0], {Needed::tell, &needed}, out);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }

 private:
  struct Needed {
    const Experts& e;
    Usage& usage;
    bool advise;
    static void tell(void* self, int64_t expert, int64_t tokens) {
      const Needed& n = *static_cast<Needed*>(self);
      n.usage.add(expert, tokens);
      if (!n.advise) return;
      advise_needed(n.e.first_of(expert), (size_t)n.e.first_bytes());
      advise_needed(n.e.second_of(expert), (size_t)n.e.second_bytes());
    }
  };
  // How many experts there are is known when it first runs.
  Usage* count_usage(int64_t experts) {
    if (Usage* known = usage.load(std::memory_order_acquire)) return known;
    Usage* made = new Usage(owner, layer, experts);
    Usage* none = nullptr;
    if (usage.compare_exchange_strong(none, made)) return made;
    delete made;
    return none;
  }
};

}  // namespace

ort::Status register_operators(const ort::Api& api, void* session_options) {
  static const ort::CustomOp operators[] = {describe<LinearKernel>(),
                                            describe<EmbeddingKernel>(),
                                            describe<ExpertsKernel>(),
                                            router_operator(),
                                            norm_operator(),
                                            attention_operator(),
                                            latent_operator(),
                                            convolution_operator(),
                                            causal_convolution_operator(),
                                            delta_net_operator(),
                                            mamba2_operator(),
                                            output_gate_operator()};
  static std::mutex lock;
  static void* known = nullptr;  // ONNX Runtime has no copy of it that outlives a session
  const std::lock_guard<std::mutex> held(lock);
  using Create = ort::Status(const char*, void**);
  using Add = ort::Status(void*, const void*);
  if (!known) {
    void* domain = nullptr;
    if (ort::Status fault = api.at<Create>(ort::CREATE_CUSTOM_OP_DOMAIN)("moedge", &domain)) return fault;
    for (const ort::CustomOp& op : operators)
      if (ort::Status fault = api.at<Add>(ort::CUSTOM_OP_DOMAIN_ADD)(domain, &op)) return fault;
    known = domain;
  }
  return api.at<Add>(ort::ADD_CUSTOM_OP_DOMAIN)(session_options, known);
}

}  // namespace moedge
