// How an operator is told to ONNX Runtime: a struct K says what it takes and gives, is made of attributes, and
// computes.
#pragma once

#include "node.h"

namespace moedge {

inline ort::Status refuse(const ort::Api& api, const char* name, const char* why) {
  char message[256];
  snprintf(message, sizeof message, "moedge.%s: %s", name, why);
  return api.at<ort::Status(int, const char*)>(ort::CREATE_STATUS)(ort::INVALID_ARGUMENT, message);
}

// A kernel, and the threads that it was made with.
template <class K>
struct Made {
  K kernel;
  Lent lent;

  Made(const ort::Api& api, Attributes& attributes) : kernel(api, attributes) {}
};

template <class K>
inline ort::CustomOp describe() {
  using Op = ort::CustomOp;
  Op op{};
  op.version = ort::VERSION;
  op.name = [](const Op*) { return K::NAME; };
  op.provider = [](const Op*) -> const char* { return nullptr; };
  op.input_type = [](const Op*, size_t i) { return K::input_type(i); };
  op.input_count = [](const Op*) -> size_t { return K::INPUTS; };
  op.output_type = [](const Op*, size_t i) { return K::output_type(i); };
  op.output_count = [](const Op*) -> size_t { return K::OUTPUTS; };
  op.input_characteristic = [](const Op*, size_t i) -> int {
    return i >= K::FIRST_OPTIONAL ? ort::OPTIONAL : ort::REQUIRED;
  };
  op.output_characteristic = [](const Op*, size_t i) -> int {
    return i >= K::FIRST_OPTIONAL_OUTPUT ? ort::OPTIONAL : ort::REQUIRED;
  };
  op.input_memory_type = [](const Op*, size_t) { return 0; };
  op.variadic_input_least = op.variadic_output_least = [](const Op*) { return 1; };
  op.variadic_input_alike = op.variadic_output_alike = [](const Op*) { return 1; };
  op.first_version = [](const Op*) { return 1; };
  op.last_version = [](const Op*) { return 1; };
  op.create_kernel_or_fail = [](const Op*, const ort::Api* api, const void* info, void** kernel) -> ort::Status {
    Attributes attributes(*api, info);
    Made<K>* made = new Made<K>(*api, attributes);
    if (attributes.fault[0]) {
      delete made;
      return refuse(*api, K::NAME, attributes.fault);
    }
    *kernel = made;
    return nullptr;
  };
  op.compute_or_fail = [](void* kernel, void* context) -> ort::Status {
    Made<K>* self = static_cast<Made<K>*>(kernel);
    Run run(self->kernel.api, context, self->lent.pool());
    return self->kernel.compute(run);
  };
  op.destroy = [](void* kernel) { delete static_cast<Made<K>*>(kernel); };
  return op;
}

}  // namespace moedge
