// The operator `Attention` of the domain moedge, as ONNX Runtime calls it. docs/kernels.md has its inputs.

#include "attention.h"
#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

struct AttentionKernel {
  static constexpr const char* NAME = "Attention";
  static constexpr size_t INPUTS = 9, FIRST_OPTIONAL = 4, OUTPUTS = 3, FIRST_OPTIONAL_OUTPUT = 3;
  static int input_type(size_t i) { return i == 1 || i == 2 ? ort::UINT8 : i == 3 ? ort::INT64 : ort::FLOAT; }
  static int output_type(size_t i) { return i ? ort::UINT8 : ort::FLOAT; }

  const ort::Api& api;
  Attention shape;

  AttentionKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const NORMS[] = {"none", "head", "whole"};
    shape.heads = attributes.whole("heads", 1, MOST_HEADS);
    shape.kv_heads = attributes.whole("kv_heads", 1, MOST_HEADS);
    if (shape.heads % shape.kv_heads) attributes.refuse("kv_heads");
    shape.dim = attributes.whole("dim", 1, MOST_HEADS);
    shape.rotary = attributes.whole("rotary", 0, shape.dim);
    if (shape.rotary % 2) attributes.refuse("rotary");
    shape.window = attributes.whole("window", 0, MOST);
    shape.switches_at = attributes.whole("switch", 0, MOST);
    shape.norm = (Norm)attributes.word("norm", NORMS, 3);
    shape.scale = attributes.number("scale");
    shape.eps = attributes.number("eps");
    shape.clip = attributes.number("clip");
    if (!(shape.clip >= 0)) attributes.refuse("clip");
    const int64_t bits = attributes.whole("activation_bits", 8, 24);
    if (bits != 8 && bits != 24) attributes.refuse("activation_bits");
    shape.exact = bits == 24;
    static const char* const VALUES[] = {"own", "key"};
    shape.key_is_value = attributes.optional_word("value", VALUES, 2, 0);
    shape.value_norm = attributes.optional_whole("value_norm", 0, 1, 0);
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t joined[2] = {-1, shape.columns()}, past[4] = {-1, shape.kv_heads, -1, -1}, told[2] = {-1, 3};
    if (!run.shaped(inputs[0], joined)) return refuse(api, NAME, "the projections do not fit");
    if (!run.shaped(inputs[1], past) || !run.shaped(inputs[2], past)) return refuse(api, NAME, "the caches do not fit");
    Cache cache{nullptr, nullptr, past[0], past[2], past[3], RowType::float32};
    if (!find_row_type(cache.row_bytes, shape.dim, &cache.type))
      return refuse(api, NAME, "a cache's rows have a length of no type");
    if (!run.shaped(inputs[3], told)) return refuse(api, NAME, "the segments do not fit");
    Tables tables{run.data<const float>(inputs[4]), run.data<const float>(inputs[5]), 0,
                  run.data<const float>(inputs[6]), run.data<const float>(inputs[7]), run.data<const float>(inputs[8])};
    if (const char* wrong = check_constants(run, inputs, tables)) return refuse(api, NAME, wrong);
    const auto* segments = run.data<const Segment>(inputs[3]);
    if (const char* wrong = check_segments(segments, told[0], joined[0], cache.slots, cache.capacity))
      return refuse(api, NAME, wrong);
    const char* beyond = check_tables(segments, told[0], tables.rows, shape.switches_at);
    if (shape.rotary && beyond) return refuse(api, NAME, beyond);
    float* out = run.output(joined[0], shape.heads * shape.dim);
    cache.keys = run.output<uint8_t>(1, past), cache.values = run.output<uint8_t>(2, past);
    if (run.fault()) return run.fault();
    if (cache.keys != run.data<uint8_t>(inputs[1]) || cache.values != run.data<uint8_t>(inputs[2]))
      return refuse(api, NAME, "a cache is not bound as input and output at once");
    const bool enough = run_attention(*chosen_kernels(), run.threads(), shape, run.data<const float>(inputs[0]),
                                      segments, told[0], tables, cache, out);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }

 private:
  static constexpr int64_t MOST_HEADS = 1 << 15;  // heads, and numbers of one

  const char* check_constants(Run& run, const void* const* inputs, Tables& tables) const {
    int64_t table[2] = {-1, shape.rotary / 2};
    if (shape.rotary && (!inputs[4] || !inputs[5] || !run.shaped(inputs[4], table) || !run.shaped(inputs[5], table)))
      return "the rotary tables do not fit";
    tables.rows = table[0];
    const bool whole = shape.norm == Norm::whole;
    int64_t q[1] = {shape.dim * (whole ? shape.heads : 1)}, k[1] = {shape.dim * (whole ? shape.kv_heads : 1)};
    if (shape.norm != Norm::none &&
        (!inputs[6] || !inputs[7] || !run.shaped(inputs[6], q) || !run.shaped(inputs[7], k)))
      return "the norms do not fit";
    int64_t sinks[1] = {shape.heads};
    return inputs[8] && !run.shaped(inputs[8], sinks) ? "the sinks do not fit" : nullptr;
  }
};

}  // namespace

ort::CustomOp attention_operator() { return describe<AttentionKernel>(); }

}  // namespace moedge
