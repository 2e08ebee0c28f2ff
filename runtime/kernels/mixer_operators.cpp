// The operators `LatentAttention` and `ShortConvolution` of the domain moedge, as ONNX Runtime calls them.
//
// docs/kernels.md has their inputs.

#include "convolution.h"
#include "latent.h"
#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

constexpr int64_t MOST_HEADS = 1 << 15;  // heads, and numbers of one
constexpr int64_t PLAIN_BITS = 32;       // of weights that are no tile rows

struct LatentKernel {
  static constexpr const char* NAME = "LatentAttention";
  static constexpr size_t INPUTS = 9, FIRST_OPTIONAL = 7, OUTPUTS = 2, FIRST_OPTIONAL_OUTPUT = 2;
  static int input_type(size_t i) { return i == 2 || i == 7 ? ort::UINT8 : i == 3 ? ort::INT64 : ort::FLOAT; }
  static int output_type(size_t i) { return i ? ort::UINT8 : ort::FLOAT; }

  const ort::Api& api;
  Latent shape;
  bool plain;

  LatentKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    shape.heads = attributes.whole("heads", 1, MOST_HEADS);
    shape.nope = attributes.whole("nope", 1, MOST_HEADS);
    shape.rope = attributes.whole("rope", 2, MOST_HEADS);
    if (shape.rope % 2) attributes.refuse("rope");
    shape.v = attributes.whole("v", 1, MOST_HEADS);
    shape.rank = attributes.whole("rank", 1, MOST_HEADS);
    shape.switches_at = attributes.whole("switch", 0, MOST);
    shape.scale = attributes.number("scale");
    shape.eps = attributes.number("eps");
    const int64_t activation_bits = attributes.whole("activation_bits", 8, 24);
    if (activation_bits != 8 && activation_bits != 24) attributes.refuse("activation_bits");
    shape.exact = activation_bits == 24;
    plain = attributes.whole("bits", 4, PLAIN_BITS) == PLAIN_BITS;
    if (!plain) shape.up = read_tiles(attributes, read_format(attributes), shape.rows(), shape.rank);
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t q[2] = {-1, shape.heads * shape.key()};
    if (!run.shaped(inputs[0], q)) return refuse(api, NAME, "the queries do not fit");
    int64_t rows[2] = {q[0], shape.width()}, past[4] = {-1, 1, -1, -1}, told[2] = {-1, 3};
    if (!run.shaped(inputs[1], rows)) return refuse(api, NAME, "the latent rows do not fit");
    if (!run.shaped(inputs[2], past)) return refuse(api, NAME, "the cache does not fit");
    LatentCache cache{nullptr, past[0], past[2], past[3], RowType::float32};
    if (!find_row_type(cache.row_bytes, shape.width(), &cache.type))
      return refuse(api, NAME, "the cache's rows have a length of no type");
    if (!run.shaped(inputs[3], told)) return refuse(api, NAME, "the segments do not fit");
    int64_t table[2] = {-1, shape.rope / 2}, norm[1] = {shape.rank};
    if (!run.shaped(inputs[4], table) || !run.shaped(inputs[5], table))
      return refuse(api, NAME, "the rotary tables do not fit");
    if (!run.shaped(inputs[6], norm)) return refuse(api, NAME, "the norm does not fit");
    int64_t stored[2] = {plain ? shape.rows() : shape.up.count, plain ? shape.rank : shape.up.bytes};
    const void* weights = inputs[plain ? 8 : 7];
    if (!weights || !run.shaped(weights, stored)) return refuse(api, NAME, "weights do not fit");
    const auto* segments = run.data<const Segment>(inputs[3]);
    if (const char* wrong = check_segments(segments, told[0], q[0], cache.slots, cache.capacity))
      return refuse(api, NAME, wrong);
    if (const char* wrong = check_tables(segments, told[0], table[0], shape.switches_at))
      return refuse(api, NAME, wrong);
    const Tables tables{
        run.data<const float>(inputs[4]), run.data<const float>(inputs[5]), table[0], nullptr, nullptr, nullptr};
    const LatentWeights given{plain ? nullptr : run.data<const uint8_t>(weights),
                              plain ? run.data<const float>(weights) : nullptr, run.data<const float>(inputs[6])};
    float* out = run.output(q[0], shape.heads * shape.v);
    cache.rows = run.output<uint8_t>(1, past);
    if (run.fault()) return run.fault();
    if (cache.rows != run.data<uint8_t>(inputs[2]))
      return refuse(api, NAME, "the cache is not bound as input and output at once");
    const bool enough = run_latent(*chosen_kernels(), run.threads(), shape, run.data<const float>(inputs[0]),
                                   run.data<const float>(inputs[1]), segments, told[0], tables, given, cache, out);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }
};

struct ConvolutionKernel {
  static constexpr const char* NAME = "ShortConvolution";
  static constexpr size_t INPUTS = 5, FIRST_OPTIONAL = 4, OUTPUTS = 2, FIRST_OPTIONAL_OUTPUT = 2;
  static int input_type(size_t i) { return i == 1 ? ort::UINT8 : i == 2 ? ort::INT64 : ort::FLOAT; }
  static int output_type(size_t i) { return i ? ort::UINT8 : ort::FLOAT; }

  const ort::Api& api;
  int64_t hidden, kernel;

  ConvolutionKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    hidden = attributes.whole("hidden", 1, MOST / 4);
    kernel = attributes.whole("kernel", 1, MOST_HEADS);
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t joined[2] = {-1, 3 * hidden}, told[2] = {-1, 3};
    if (!run.shaped(inputs[0], joined)) return refuse(api, NAME, "the projections do not fit");
    int64_t past[4] = {-1, 1, -1, row_bytes_of(RowType::float32, hidden)};
    if (!run.shaped(inputs[1], past)) return refuse(api, NAME, "the cache does not fit");
    if (!run.shaped(inputs[2], told)) return refuse(api, NAME, "the segments do not fit");
    int64_t taps[2] = {kernel, hidden}, bias[1] = {hidden};
    if (!run.shaped(inputs[3], taps) || (inputs[4] && !run.shaped(inputs[4], bias)))
      return refuse(api, NAME, "weights do not fit");
    const auto* segments = run.data<const Segment>(inputs[2]);
    if (const char* wrong = check_segments(segments, told[0], joined[0], past[0], past[2]))
      return refuse(api, NAME, wrong);
    float* out = run.output(joined[0], hidden);
    const ConvolutionCache cache{reinterpret_cast<float*>(run.output<uint8_t>(1, past)), past[2]};
    if (run.fault()) return run.fault();
    if (cache.rows != run.data<const float>(inputs[1]))
      return refuse(api, NAME, "the cache is not bound as input and output at once");
    const Convolution convolution{hidden, kernel, run.data<const float>(inputs[3]), run.data<const float>(inputs[4])};
    run_convolution(*chosen_kernels(), run.threads(), convolution, run.data<const float>(inputs[0]), segments, told[0],
                    cache, out);
    return run.fault();
  }
};

}  // namespace

ort::CustomOp latent_operator() { return describe<LatentKernel>(); }
ort::CustomOp convolution_operator() { return describe<ConvolutionKernel>(); }

}  // namespace moedge
