// The operator `AddNorm` of the domain moedge, as ONNX Runtime calls it.
//
// docs/kernels.md has its inputs.

#include "norm.h"
#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

struct AddNormKernel {
  static constexpr const char* NAME = "AddNorm";
  static constexpr size_t INPUTS = 3, FIRST_OPTIONAL = 3;
  static constexpr size_t OUTPUTS = 2, FIRST_OPTIONAL_OUTPUT = 2;
  static int input_type(size_t) { return ort::FLOAT; }
  static int output_type(size_t) { return ort::FLOAT; }

  const ort::Api& api;
  float eps;

  AddNormKernel(const ort::Api& a, Attributes& attributes) : api(a), eps(attributes.number("eps")) {}

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t sizes[2] = {-1, -1}, weight[1] = {-1};
    if (!run.shaped(inputs[0], sizes) || !run.shaped(inputs[1], sizes))
      return refuse(api, NAME, "what is added does not fit");
    if (!run.shaped(inputs[2], weight) || weight[0] != sizes[1]) return refuse(api, NAME, "the weight does not fit");
    const AddNorm norm{sizes[1], eps, run.data<const float>(inputs[2])};
    const float *x = run.data<const float>(inputs[0]), *delta = run.data<const float>(inputs[1]);
    float *normed = run.output<float>(0, sizes), *sum = run.output<float>(1, sizes);
    if (run.fault()) return run.fault();
    add_and_norm(*chosen_kernels(), run.threads(), norm, x, delta, sizes[0], normed, sum);
    return run.fault();
  }
};

}  // namespace

ort::CustomOp norm_operator() { return describe<AddNormKernel>(); }

}  // namespace moedge
