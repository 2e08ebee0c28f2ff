// The operators `CausalConvolution`, `DeltaNet` and `Mamba2` of the domain moedge, as ONNX Runtime calls them.
//
// docs/kernels.md has their inputs.

#include "causal_convolution.h"
#include "delta_net.h"
#include "mamba2.h"
#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

constexpr int64_t MOST_HEADS = 1 << 15;  // heads, and numbers of one

// What the three share: a memory whose rows have the sizes behind the first one, segments, and their states.
struct Kept {
  const char* wrong = nullptr;
  States states{};
  float* memory = nullptr;

  // Inputs `at`, at + 1 and at + 2; the memory is output 1 too. `wrong` says why not, unless `run` has a fault.
  template <int N>
  Kept(Run& run, size_t at, int64_t (&sizes)[N], int64_t tokens) {
    const void *rows = run.input(at), *told = run.input(at + 1), *states_told = run.input(at + 2);
    int64_t segments[2] = {-1, 3};
    if (!run.shaped(rows, sizes)) {
      wrong = "the memory does not fit";
      return;
    }
    if (!run.shaped(told, segments)) {
      wrong = "the segments do not fit";
      return;
    }
    int64_t pairs[2] = {segments[0], 2};
    if (!run.shaped(states_told, pairs)) {
      wrong = "the states do not fit";
      return;
    }
    states = {run.data<const Segment>(told), run.data<const StateRows>(states_told), segments[0]};
    if (run.fault()) return;
    if ((wrong = check_states(states, tokens, sizes[0]))) return;
    memory = run.output<float>(1, sizes);
    if (!run.fault() && memory != run.data<const float>(rows))
      wrong = "the memory is not bound as input and output at once";
  }
};

// Which of a node's inputs are the memory's segments and states.
template <size_t MEMORY>
struct Inputs {
  static constexpr size_t OUTPUTS = 2, FIRST_OPTIONAL_OUTPUT = 2;
  static int input_type(size_t i) { return i == MEMORY + 1 || i == MEMORY + 2 ? ort::INT64 : ort::FLOAT; }
  static int output_type(size_t) { return ort::FLOAT; }
};

struct CausalKernel : Inputs<1> {
  static constexpr const char* NAME = "CausalConvolution";
  static constexpr size_t INPUTS = 6, FIRST_OPTIONAL = 5;

  const ort::Api& api;
  CausalConvolution shape{};

  CausalKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    shape.channels = attributes.whole("channels", 1, MOST / 4);
    shape.kernel = attributes.whole("kernel", 2, MOST_HEADS);
  }

  ort::Status compute(Run& run) {
    const void *given = run.input(0), *weights = run.input(4), *added = run.input(5);
    int64_t x[2] = {-1, shape.channels}, taps[2] = {shape.kernel, shape.channels}, bias[1] = {shape.channels};
    if (!run.shaped(given, x)) return refuse(api, NAME, "the inputs do not fit");
    if (!run.shaped(weights, taps) || (added && !run.shaped(added, bias)))
      return refuse(api, NAME, "weights do not fit");
    int64_t memory[3] = {-1, shape.kernel - 1, shape.channels};
    const Kept kept(run, 1, memory, x[0]);
    if (kept.wrong) return refuse(api, NAME, kept.wrong);
    float* out = run.output(x[0], shape.channels);
    CausalConvolution convolution = shape;
    convolution.taps = run.data<const float>(weights), convolution.bias = run.data<const float>(added);
    const float* data = run.data<const float>(given);
    if (run.fault()) return run.fault();
    run_causal_convolution(*chosen_kernels(), run.threads(), convolution, data, kept.states, kept.memory, out);
    return run.fault();
  }
};

struct DeltaKernel : Inputs<4> {
  static constexpr const char* NAME = "DeltaNet";
  static constexpr size_t INPUTS = 10, FIRST_OPTIONAL = 10;

  const ort::Api& api;
  DeltaNet shape{};

  DeltaKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const DECAYS[] = {"softplus", "bounded"};
    static const char* const GATES[] = {"sigmoid", "silu"};
    shape.key_heads = attributes.whole("key_heads", 1, MOST_HEADS);
    shape.value_heads = attributes.whole("value_heads", 1, MOST_HEADS);
    if (shape.value_heads % shape.key_heads) attributes.refuse("value_heads");
    shape.key_dim = attributes.whole("key_dim", 1, MOST_HEADS);
    shape.value_dim = attributes.whole("value_dim", 1, MOST_HEADS);
    shape.scale = attributes.number("scale");
    shape.eps = attributes.number("eps");
    shape.per_channel = attributes.whole("per_channel", 0, 1);
    shape.forgetting.bounded = attributes.word("decay", DECAYS, 2);
    shape.forgetting.bound = attributes.number("lower_bound");
    if (shape.forgetting.bounded && !(shape.forgetting.bound < 0)) attributes.refuse("lower_bound");
    shape.silu = attributes.word("gate_activation", GATES, 2);
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t mixed[2] = {-1, shape.columns()};
    if (!run.shaped(inputs[0], mixed)) return refuse(api, NAME, "the queries, keys and values do not fit");
    int64_t gate[2] = {mixed[0], shape.values()}, beta[2] = {mixed[0], shape.value_heads};
    int64_t decay[2] = {mixed[0], shape.decays()};
    if (!run.shaped(inputs[1], gate)) return refuse(api, NAME, "the gates do not fit");
    if (!run.shaped(inputs[2], beta) || !run.shaped(inputs[3], decay))
      return refuse(api, NAME, "what is forgotten does not fit");
    int64_t rates[1] = {shape.value_heads}, shift[1] = {shape.decays()}, norm[1] = {shape.value_dim};
    if (!run.shaped(inputs[7], rates) || !run.shaped(inputs[8], shift) || !run.shaped(inputs[9], norm))
      return refuse(api, NAME, "weights do not fit");
    int64_t memory[4] = {-1, shape.value_heads, shape.key_dim, shape.value_dim};
    const Kept kept(run, 4, memory, mixed[0]);
    if (kept.wrong) return refuse(api, NAME, kept.wrong);
    float* out = run.output(mixed[0], shape.values());
    DeltaNet net = shape;
    net.rates = run.data<const float>(inputs[7]), net.shift = run.data<const float>(inputs[8]);
    net.norm = run.data<const float>(inputs[9]);
    const DeltaTokens given{run.data<const float>(inputs[0]), run.data<const float>(inputs[1]),
                            run.data<const float>(inputs[2]), run.data<const float>(inputs[3])};
    if (run.fault()) return run.fault();
    const bool enough = run_delta_net(*chosen_kernels(), run.threads(), net, given, kept.states, kept.memory, out);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }
};

struct MambaKernel : Inputs<3> {
  static constexpr const char* NAME = "Mamba2";
  static constexpr size_t INPUTS = 10, FIRST_OPTIONAL = 10;

  const ort::Api& api;
  Mamba2 shape{};

  MambaKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    shape.heads = attributes.whole("heads", 1, MOST_HEADS);
    shape.head_dim = attributes.whole("head_dim", 1, MOST_HEADS);
    shape.groups = attributes.whole("groups", 1, shape.heads);
    if (shape.heads % shape.groups) attributes.refuse("groups");
    shape.state = attributes.whole("state", 1, MOST_HEADS);
    shape.norm_groups = attributes.whole("norm_groups", 1, shape.inner());
    if (shape.inner() % shape.norm_groups) attributes.refuse("norm_groups");
    shape.eps = attributes.number("eps");
    shape.steps.least = attributes.number("dt_min");
    shape.steps.most = attributes.number("dt_max");
    if (!(shape.steps.least <= shape.steps.most)) attributes.refuse("dt_max");
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t mixed[2] = {-1, shape.columns()};
    if (!run.shaped(inputs[0], mixed)) return refuse(api, NAME, "the inputs do not fit");
    int64_t gate[2] = {mixed[0], shape.inner()}, dt[2] = {mixed[0], shape.heads};
    if (!run.shaped(inputs[1], gate)) return refuse(api, NAME, "the gates do not fit");
    if (!run.shaped(inputs[2], dt)) return refuse(api, NAME, "the time steps do not fit");
    int64_t each[1] = {shape.heads}, norm[1] = {shape.inner()};
    if (!run.shaped(inputs[6], each) || !run.shaped(inputs[7], each) || !run.shaped(inputs[8], each) ||
        !run.shaped(inputs[9], norm))
      return refuse(api, NAME, "weights do not fit");
    int64_t memory[4] = {-1, shape.heads, shape.state, shape.head_dim};
    const Kept kept(run, 3, memory, mixed[0]);
    if (kept.wrong) return refuse(api, NAME, kept.wrong);
    float* out = run.output(mixed[0], shape.inner());
    Mamba2 mamba = shape;
    mamba.rates = run.data<const float>(inputs[6]), mamba.shift = run.data<const float>(inputs[7]);
    mamba.skip = run.data<const float>(inputs[8]), mamba.norm = run.data<const float>(inputs[9]);
    const MambaTokens given{run.data<const float>(inputs[0]), run.data<const float>(inputs[1]),
                            run.data<const float>(inputs[2])};
    if (run.fault()) return run.fault();
    const bool enough = run_mamba2(*chosen_kernels(), run.threads(), mamba, given, kept.states, kept.memory, out);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }
};

}  // namespace

ort::CustomOp causal_convolution_operator() { return describe<CausalKernel>(); }
ort::CustomOp delta_net_operator() { return describe<DeltaKernel>(); }
ort::CustomOp mamba2_operator() { return describe<MambaKernel>(); }

}  // namespace moedge
