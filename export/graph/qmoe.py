"""QMoE's inputs by position and its attributes, as docs/qmoe.md writes them down; what is in them is for others."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import Reordered
from moedge.export.graph.builder import Attributes, drop_absent_last
from moedge.export.graph.lowering import Routing
from moedge.export.model.config import Experts, Gate
from moedge.quant.scheme import Scheme

# MatMulNBits' and QMoE's accuracy_level
FP32_ACTIVATIONS = 1
INT8_ACTIVATIONS = 4


def set_accuracy(graph: ir.Graph, level: int) -> None:
    """Let nodes that multiply in int8 do it in another precision, as MatMulNBits documents its accuracy_level."""
    for node in graph:
        known = node.attributes.get("accuracy_level")
        if known is not None and known.as_int() == INT8_ACTIVATIONS:
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", level)


def qmoe_inputs(
    x: ir.Value,
    routing: Routing,
    first: Sequence[ir.Value | None],
    second: Sequence[ir.Value | None],
    biases: Sequence[ir.Value | None] = (None, None),
) -> list[ir.Value | None]:
    """QMoE's inputs by position; `first` and `second` are codes, scales, zero points and factors of a projection."""
    named = {
        "input": x,
        "router_probs": routing.select,
        "fc1_experts_weights": first[0],
        "fc1_scales": first[1],
        "fc1_experts_bias": biases[0],
        "fc2_experts_weights": second[0],
        "fc2_scales": second[1],
        "fc2_experts_bias": biases[1],
        "fc3_experts_weights": None,
        "fc3_scales": None,
        "fc3_experts_bias": None,
        "fc1_zero_points": first[2],
        "fc2_zero_points": second[2],
        "fc3_zero_points": None,
        "router_weights": routing.weigh,
        "fc1_global_scale": first[3],
        "fc2_global_scale": second[3],
    }
    return drop_absent_last([*named.values()])


# relu² as swiglu, whose gate is as good as open or shut beyond 1e-3 of a unit: max(u, 0)² = u · sigmoid(alpha u) · u
RELU2_AS_SWIGLU = Gate(alpha=1e4)


def kernel_gate(gate: Gate) -> Gate:
    """The gate as QMoE computes it; MoedgeError for one that it has no way to."""
    if gate.kind == "geglu_tanh":
        raise MoedgeError(
            "onnxruntime's kernel of experts has no GeGLU, which this model has: export it with --experts native, or "
            "if."
        )
    return RELU2_AS_SWIGLU if gate.kind == "relu2" else gate


def up_twice(matrix: Matrix, gate: Gate) -> Matrix:
    """What QMoE multiplies first: gate and up in turn, for which relu² has its up rows twice."""
    return Reordered(matrix, np.repeat(np.arange(matrix.shape[0]), 2)) if gate.kind == "relu2" else matrix


def qmoe_attributes(scheme: Scheme, config: Experts, routing: Routing) -> Attributes:
    """QMoE's attributes for gated experts in a scheme."""
    gate = kernel_gate(config.gate)
    limit: Attributes = {} if gate.limit is None else {"swiglu_limit": gate.limit}
    shared: Attributes = limit | {
        "k": config.num_experts_per_tok,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": gate.alpha,
        "activation_beta": gate.beta,
        "expert_weight_bits": scheme.kernel_bits,
        "block_size": scheme.block,
    }
    if scheme.numbers == "integers":
        # routing.py has normalized, where the router does
        return shared | {"normalize_routing_weights": 0, "accuracy_level": INT8_ACTIVATIONS}
    return shared | {
        # without it, this kernel takes the softmax over all experts and not over the chosen ones
        "normalize_routing_weights": int(routing.weigh is None),
        "quant_type": "fp4" if scheme.scales == "float8e8m0" else "nvfp4",
        "weights_prepacked": 1,  # read as they lie: without it, float8 scales are refused
    }
