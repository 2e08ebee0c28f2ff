// The few places of ONNX Runtime's C interface that are used here, by position: its headers are on no package index,
// and the interface only grows at its end. tests/test_kernel_interface.py holds each of them against the installed
// version.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moedge::ort {

constexpr uint32_t VERSION = 17;  // of the interface, onnxruntime 1.17: the first that lends its threads

enum Place {
  CREATE_STATUS = 0,
  CREATE_CUSTOM_OP_DOMAIN = 26,
  CUSTOM_OP_DOMAIN_ADD = 27,
  ADD_CUSTOM_OP_DOMAIN = 28,
  GET_TENSOR_MUTABLE_DATA = 51,
  GET_DIMENSIONS_COUNT = 61,
  GET_DIMENSIONS = 62,
  GET_TENSOR_TYPE_AND_SHAPE = 65,
  KERNEL_INFO_GET_ATTRIBUTE_FLOAT = 85,
  KERNEL_INFO_GET_ATTRIBUTE_INT64 = 86,
  KERNEL_INFO_GET_ATTRIBUTE_STRING = 87,
  KERNEL_CONTEXT_GET_INPUT = 90,
  KERNEL_CONTEXT_GET_OUTPUT = 91,
  RELEASE_STATUS = 93,
  RELEASE_TENSOR_TYPE_AND_SHAPE_INFO = 99,
  KERNEL_CONTEXT_PARALLEL_FOR = 274,
  PLACES
};

enum ElementType { FLOAT = 1, UINT8 = 2, INT64 = 7 };
enum Characteristic { REQUIRED = 0, OPTIONAL = 1 };
constexpr int FAIL = 1, INVALID_ARGUMENT = 2;

using Status = void*;  // null: done

struct Api {
  const void* places[PLACES];

  template <class F>
  F* at(Place place) const {
    return reinterpret_cast<F*>(const_cast<void*>(places[place]));
  }
};

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

// An operator, as ONNX Runtime asks about it.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const void* info);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  int (*input_type)(const CustomOp*, size_t);
  size_t (*input_count)(const CustomOp*);
  int (*output_type)(const CustomOp*, size_t);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void* kernel, void* context);
  void (*destroy)(void* kernel);
  int (*input_characteristic)(const CustomOp*, size_t);
  int (*output_characteristic)(const CustomOp*, size_t);
  int (*input_memory_type)(const CustomOp*, size_t);
  int (*variadic_input_least)(const CustomOp*);
  int (*variadic_input_alike)(const CustomOp*);
  int (*variadic_output_least)(const CustomOp*);
  int (*variadic_output_alike)(const CustomOp*);
  Status (*create_kernel_or_fail)(const CustomOp*, const Api*, const void* info, void** kernel);
  Status (*compute_or_fail)(void* kernel, void* context);
  Status (*infer_shape)(const CustomOp*, void*);
  int (*first_version)(const CustomOp*);
  int (*last_version)(const CustomOp*);
  void* later[8];
};

}  // namespace moedge::ort
