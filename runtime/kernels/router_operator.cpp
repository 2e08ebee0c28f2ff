// The operator `Router` of the domain moedge, as ONNX Runtime calls it.
//
// docs/kernels.md has its inputs. The mathematics is in router.cpp.

#include "router.h"

#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

struct RouterKernel {
  static constexpr const char* NAME = "Router";
  static constexpr size_t INPUTS = 4, FIRST_OPTIONAL = 2;
  static constexpr size_t OUTPUTS = 2, FIRST_OPTIONAL_OUTPUT = 1;  // without a scoring there is no `weigh`
  static int input_type(size_t) { return ort::FLOAT; }
  static int output_type(size_t) { return ort::FLOAT; }

  const ort::Api& api;
  Router shape{};

  RouterKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const SCORINGS[] = {"none", "softmax", "sigmoid", "sparsemixer"};
    shape.experts = attributes.whole("experts", 1, MOST);
    shape.hidden = attributes.whole("hidden", 1, MOST);
    shape.chosen = attributes.whole("k", 1, shape.experts);
    shape.scoring = (Scoring)attributes.word("scoring", SCORINGS, 4);
    shape.normalize = attributes.whole("normalize", 0, 1);
    shape.eps = attributes.number("eps");
    shape.least_sum = attributes.number("least_sum");
    shape.jitter = attributes.number("jitter");
    shape.softcap = attributes.optional_number("softcap", 0);
    if (!(shape.softcap >= 0 && shape.softcap < __builtin_inff())) attributes.refuse("softcap");
    shape.groups = attributes.whole("groups", 1, shape.experts);
    if (shape.experts % shape.groups) attributes.refuse("groups");
    shape.open_groups = attributes.whole("open_groups", 1, shape.groups);
    shape.group_best = attributes.whole("group_best", 1, MOST);
  }

  ort::Status compute(Run& run) {
    const void* inputs[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) inputs[i] = run.input(i);
    int64_t x[2] = {-1, shape.hidden}, weight[2] = {shape.experts, shape.hidden}, each[1] = {shape.experts};
    if (!run.shaped(inputs[0], x)) return refuse(api, NAME, "hidden states do not fit");
    if (!run.shaped(inputs[1], weight) || (inputs[2] && !run.shaped(inputs[2], each)) ||
        (inputs[3] && !run.shaped(inputs[3], each)))
      return refuse(api, NAME, "weights do not fit");
    Router router = shape;
    router.weight = run.data<const float>(inputs[1]);
    router.bias = run.data<const float>(inputs[2]);
    router.correction = run.data<const float>(inputs[3]);
    const float* states = run.data<const float>(inputs[0]);
    const int64_t scores[2] = {x[0], shape.experts};
    float* select = run.output<float>(0, scores);
    float* weigh = shape.scoring == Scoring::none ? nullptr : run.output<float>(1, scores);
    if (run.fault()) return run.fault();
    if (!weigh && x[0] && shape.scoring != Scoring::none) return refuse(api, NAME, "nobody takes what experts count");
    const bool enough = run_router(*chosen_kernels(), run.threads(), router, states, x[0], select, weigh);
    return enough ? run.fault() : refuse(api, NAME, "there is not enough memory");
  }
};

}  // namespace

ort::CustomOp router_operator() { return describe<RouterKernel>(); }

}  // namespace moedge
