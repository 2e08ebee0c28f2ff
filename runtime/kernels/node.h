// A node of a graph as an operator's kernel sees it: attributes when it is made, tensors when it runs.
#pragma once

#include <cstdio>

#include "onnxruntime.h"
#include "pool.h"
#include "work.h"

namespace moedge {

// Attributes of a node; the first one that is not there or not usable is what `fault` says.
class Attributes {
 public:
  Attributes(const ort::Api& api, const void* info) : api_(api), info_(info) { fault[0] = 0; }

  // A whole number from `least` to `most`; `least` if it is none.
  int64_t whole(const char* name, int64_t least, int64_t most) {
    int64_t value = 0;
    using F = ort::Status(const void*, const char*, int64_t*);
    if (failed(api_.at<F>(ort::KERNEL_INFO_GET_ATTRIBUTE_INT64)(info_, name, &value)) || value < least ||
        value > most) {
      refuse(name);
      return least;
    }
    return value;
  }
  float number(const char* name) {
    float value = 0;
    using F = ort::Status(const void*, const char*, float*);
    if (failed(api_.at<F>(ort::KERNEL_INFO_GET_ATTRIBUTE_FLOAT)(info_, name, &value))) refuse(name);
    return value;
  }
  // What an attribute that older bundles have not got is; `usual` without it.
  int64_t optional_whole(const char* name, int64_t least, int64_t most, int64_t usual) {
    return is_there(name) ? whole(name, least, most) : usual;
  }
  float optional_number(const char* name, float usual) { return is_there(name) ? number(name) : usual; }
  int optional_word(const char* name, const char* const* words, int count, int usual) {
    return is_there(name) ? word(name, words, count) : usual;
  }
  // Which of `count` words it is.
  int word(const char* name, const char* const* words, int count) {
    char value[64] = {};
    size_t size = sizeof value;
    using F = ort::Status(const void*, const char*, char*, size_t*);
    if (!failed(api_.at<F>(ort::KERNEL_INFO_GET_ATTRIBUTE_STRING)(info_, name, value, &size)))
      for (int i = 0; i < count; i++)
        if (!strcmp(words[i], value)) return i;
    refuse(name);
    return 0;
  }
  void refuse(const char* name) {
    if (!fault[0]) snprintf(fault, sizeof fault, "attribute %s is missing or has a value that does not fit", name);
  }

  char fault[160];

 private:
  // Of whatever type, so that one of the wrong type is refused where it is read.
  bool is_there(const char* name) {
    int64_t whole;
    float number;
    size_t size = 0;  // of a word: too little room for it, and then told
    using Whole = ort::Status(const void*, const char*, int64_t*);
    using Number = ort::Status(const void*, const char*, float*);
    using Word = ort::Status(const void*, const char*, char*, size_t*);
    return !failed(api_.at<Whole>(ort::KERNEL_INFO_GET_ATTRIBUTE_INT64)(info_, name, &whole)) ||
           !failed(api_.at<Number>(ort::KERNEL_INFO_GET_ATTRIBUTE_FLOAT)(info_, name, &number)) ||
           !failed(api_.at<Word>(ort::KERNEL_INFO_GET_ATTRIBUTE_STRING)(info_, name, nullptr, &size)) || size;
  }
  bool failed(ort::Status status) {
    if (status) api_.at<void(ort::Status)>(ort::RELEASE_STATUS)(status);
    return status;
  }
  const ort::Api& api_;
  const void* info_;
};

constexpr int64_t MOST = INT32_MAX;  // of rows, columns and whatever else is counted: no product of two overflows

// The scheme that a node's attributes tell.
inline Format read_format(Attributes& attributes) {
  static const char* const SCALES[] = {"float32", "float16", "bfloat16", "float8", "float8e8m0", "float8e4m3fn"};
  static const char* const NUMBERS[] = {"integers", "floats"};
  attributes.whole("layout", LAYOUT, LAYOUT);
  const int64_t bits = attributes.whole("bits", 4, 8), block = attributes.whole("block", 16, 128);
  if (bits == 7) attributes.refuse("bits");
  if (block & (block - 1)) attributes.refuse("block");
  const bool floats = attributes.word("numbers", NUMBERS, 2);
  const int scales = attributes.word("scales", SCALES, 6);
  const bool zero_point = attributes.whole("zero_point", 0, 1);
  if (floats && (bits != 4 || zero_point)) attributes.refuse("numbers");
  static const Kind KINDS[] = {Kind::four, Kind::five, Kind::six, Kind::eight, Kind::eight};
  return {floats ? Kind::floats : KINDS[bits - 4], (int)block, zero_point,
          scales == 5 ? Scales::float8 : (Scales)scales};
}

// A matrix of that format; whole blocks make up its columns.
inline Tiles read_tiles(Attributes& attributes, Format format, int64_t rows, int64_t columns) {
  if (columns % format.block) attributes.refuse("block");
  return Tiles(format, rows, columns);
}

// Tensors of one run, and the threads that it may use: those of a pool, or what ONNX Runtime lends.
class Run {
 public:
  Run(const ort::Api& api, void* context, Pool* pool) : api_(api), context_(context), pool_(pool) {}

  const void* input(size_t i) {
    const void* value = nullptr;
    using F = ort::Status(const void*, size_t, const void**);
    keep(api_.at<F>(ort::KERNEL_CONTEXT_GET_INPUT)(context_, i, &value));
    return value;
  }
  template <class T>
  T* data(const void* value) {
    if (!value) return nullptr;
    void* at = nullptr;
    using F = ort::Status(const void*, void**);
    keep(api_.at<F>(ort::GET_TENSOR_MUTABLE_DATA)(value, &at));
    return static_cast<T*>(at);
  }
  // Whether a tensor has these dimensions; -1 is any size, which `sizes` is told then.
  template <int N>
  bool shaped(const void* value, int64_t (&sizes)[N]) {
    void* info = nullptr;
    size_t count = 0;
    int64_t found[N] = {};
    using Shape = ort::Status(const void*, void**);
    using Count = ort::Status(const void*, size_t*);
    using Sizes = ort::Status(const void*, int64_t*, size_t);
    api_.at<Shape>(ort::GET_TENSOR_TYPE_AND_SHAPE)(value, &info);
    api_.at<Count>(ort::GET_DIMENSIONS_COUNT)(info, &count);
    if (count == N) api_.at<Sizes>(ort::GET_DIMENSIONS)(info, found, N);
    api_.at<void(void*)>(ort::RELEASE_TENSOR_TYPE_AND_SHAPE_INFO)(info);
    bool fits = count == N;
    for (int i = 0; i < N; i++) {
      fits &= sizes[i] < 0 || sizes[i] == found[i];
      sizes[i] = found[i];
    }
    return fits;
  }
  // The node's output, or null: then `fault` says why.
  float* output(int64_t rows, int64_t columns) {
    const int64_t sizes[2] = {rows, columns};
    return output<float>(0, sizes);
  }
  // Its output i of these sizes.
  template <class T, int N>
  T* output(size_t i, const int64_t (&sizes)[N]) {
    void* value = nullptr;
    using F = ort::Status(void*, size_t, const int64_t*, size_t, void**);
    keep(api_.at<F>(ort::KERNEL_CONTEXT_GET_OUTPUT)(context_, i, sizes, N, &value));
    return data<T>(value);
  }
  Threads threads() {
    if (pool_) return pool_->threads();
    return {[](void* self, size_t count, void (*work)(void*, size_t), void* what) {
              Run& run = *static_cast<Run*>(self);
              using F = ort::Status(const void*, void (*)(void*, size_t), size_t, size_t, void*);
              run.keep(run.api_.at<F>(ort::KERNEL_CONTEXT_PARALLEL_FOR)(run.context_, work, count, 0, what));
            },
            this};
  }
  // The first fault of ONNX Runtime's, or null.
  ort::Status fault() const { return fault_; }

 private:
  void keep(ort::Status status) {
    if (!fault_)
      fault_ = status;
    else if (status)
      api_.at<void(ort::Status)>(ort::RELEASE_STATUS)(status);
  }
  const ort::Api& api_;
  void* context_;
  Pool* pool_;
  ort::Status fault_ = nullptr;
};

}  // namespace moedge
