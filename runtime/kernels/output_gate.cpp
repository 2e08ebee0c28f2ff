// Each job takes some tokens. A gate is as exact wherever in a vector it stands, so that a token's bits are its own.

#include "output_gate.h"

#include "operator.h"
#include "operators.h"

namespace moedge {
namespace {

constexpr int64_t JOB_NUMBERS = 16 << 10;  // fewer are done before other threads have woken
constexpr int64_t PART = 512;              // gates that are opened at once

}  // namespace

void open_gates(const Kernels& kernels, const Threads& threads, const OutputGate& how, const float* x,
                const float* gate, int64_t tokens, float* out) {
  const int64_t each = how.width / how.gates;
  const int64_t job_tokens = how.width < JOB_NUMBERS ? JOB_NUMBERS / how.width : 1;
  threads.each((size_t)((tokens + job_tokens - 1) / job_tokens), [&](size_t job) {
    const int64_t first = (int64_t)job * job_tokens;
    const int64_t end = first + job_tokens < tokens ? first + job_tokens : tokens;
    float opened[PART];
    for (int64_t t = first; t < end; t++)
      for (int64_t begin = 0; begin < how.gates; begin += PART) {
        const int64_t n = begin + PART < how.gates ? PART : how.gates - begin, at = t * how.width + begin * each;
        kernels.recurrent.open(how.softplus, gate + t * how.gates + begin, n, opened);
        if (each == 1)
          for (int64_t i = 0; i < n; i++) out[at + i] = x[at + i] * opened[i];
        else
          for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < each; j++) out[at + i * each + j] = x[at + i * each + j] * opened[i];
      }
  });
}

namespace {

// The operator of the domain moedge, as ONNX Runtime calls it; docs/kernels.md has its inputs.
struct OutputGateKernel {
  static constexpr const char* NAME = "OutputGate";
  static constexpr size_t INPUTS = 2, FIRST_OPTIONAL = 2;
  static constexpr size_t OUTPUTS = 1, FIRST_OPTIONAL_OUTPUT = 1;
  static int input_type(size_t) { return ort::FLOAT; }
  static int output_type(size_t) { return ort::FLOAT; }

  const ort::Api& api;
  OutputGate how;

  OutputGateKernel(const ort::Api& a, Attributes& attributes) : api(a) {
    static const char* const ACTIVATIONS[] = {"sigmoid", "softplus"};
    how.width = attributes.whole("width", 1, MOST);
    how.gates = attributes.whole("gates", 1, MOST);
    if (how.width % how.gates) attributes.refuse("gates");
    how.softplus = attributes.word("activation", ACTIVATIONS, 2);
  }

  ort::Status compute(Run& run) {
    const void *given = run.input(0), *gates = run.input(1);
    int64_t sizes[2] = {-1, how.width};
    if (!run.shaped(given, sizes)) return refuse(api, NAME, "what is gated does not fit");
    int64_t opened[2] = {sizes[0], how.gates};
    if (!run.shaped(gates, opened)) return refuse(api, NAME, "the gates do not fit");
    const float *x = run.data<const float>(given), *gate = run.data<const float>(gates);
    float* out = run.output(sizes[0], how.width);
    if (run.fault()) return run.fault();
    open_gates(*chosen_kernels(), run.threads(), how, x, gate, sizes[0], out);
    return run.fault();
  }
};

}  // namespace

ort::CustomOp output_gate_operator() { return describe<OutputGateKernel>(); }

}  // namespace moedge
