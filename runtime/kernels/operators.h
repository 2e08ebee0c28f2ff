// Makes the operators known to the sessions that are opened with some options.
#pragma once

#include "onnxruntime.h"

namespace moedge {

// In files of their own.
ort::CustomOp router_operator();
ort::CustomOp norm_operator();
ort::CustomOp attention_operator();
ort::CustomOp latent_operator();
ort::CustomOp convolution_operator();
ort::CustomOp causal_convolution_operator();
ort::CustomOp delta_net_operator();
ort::CustomOp mamba2_operator();
ort::CustomOp output_gate_operator();

ort::Status register_operators(const ort::Api& api, void* session_options);

}  // namespace moedge
