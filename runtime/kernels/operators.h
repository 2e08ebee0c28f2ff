// Makes the operators known to the sessions that are opened with some options.
#pragma once

#include "onnxruntime.h"

namespace moedge {

ort::Status register_operators(const ort::Api& api, void* session_options);

}  // namespace moedge
