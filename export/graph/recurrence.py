"""Delta nets and Mamba-2 in plain operators, their recurrence a `Scan` over tokens; and what lies around it.

A state of a fixed size goes in as a cache of layout `state`, and what it has become comes out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import FLOAT, rms_norm
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import CachePort, Lowering
from moedge.export.graph.mixer_inputs import DeltaInputs, MambaInputs
from moedge.export.model.recurrent import DeltaNet, Mamba2
from moedge.runtime.manifest import CacheTensor

L2_EPS = 1e-6  # of what q and k of a delta net are divided by


@dataclass(frozen=True)
class Steps:
    """What a recurrence reads of its tokens, and how its state S [heads, keys, values] goes on.

    S ← e^decay S;  S ← S + k (beta (v - kᵀS))ᵀ, or without a beta S + k vᵀ;  out = qᵀS. Heads of q and k may be fewer
    than those of v: each then serves as many, one after the other.
    """

    q: ir.Value  # [s, key_heads, keys], times what it is to be scaled by
    k: ir.Value  # [s, key_heads, keys]
    v: ir.Value  # [s, heads, values]
    decay: ir.Value  # [s, heads], or [s, heads, keys]
    beta: ir.Value | None  # [s, heads]
    key_heads: int
    state: tuple[int, int, int]
    by_channel: bool = False


Recur = Callable[[int, Steps], ir.Value]  # of layer and steps: out [s, heads, values]


def state_port(layer: int, name: str, shape: tuple[int, ...]) -> tuple[ir.Value, CacheTensor]:
    """The input and the manifest's entry of a cache of layout `state`."""
    past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=ir.Shape([1, *shape]))
    return past, CacheTensor(past.name or "", f"present.{layer}.{name}", "state", shape)


def keep_state(cache: list[CachePort], past: ir.Value, tensor: CacheTensor, present: ir.Value) -> None:
    """Take note of what a state has become, which is called so as the tensor says."""
    present.type, present.shape = FLOAT, past.shape
    cache.append(CachePort(tensor, past, present))


def plain_recurrence(low: Lowering, layer: int, steps: Steps) -> ir.Value:
    """One `Scan`: the state goes from token to token."""
    b, (heads, keys, values) = low.builder, steps.state
    past, tensor = state_port(layer, "recurrent_state", steps.state)
    q, k = (_repeat(b, x, heads // steps.key_heads, steps.key_heads, keys) for x in (steps.q, steps.k))
    decay = b.op("Exp", steps.decay)
    decay = b.op("Reshape", decay, b.ints(0, heads, keys if steps.by_channel else 1, 1))
    scanned = [b.op("Reshape", q, b.ints(0, heads, 1, keys)), b.op("Reshape", k, b.ints(0, heads, keys, 1))]
    scanned += [b.op("Reshape", steps.v, b.ints(0, heads, 1, values)), decay]
    if steps.beta is not None:
        scanned.append(b.op("Reshape", steps.beta, b.ints(0, heads, 1, 1)))
    body = b.branch()
    state, *now = (ir.Value(name=b.full_name(name), type=FLOAT) for name in ("S", "q", "k", "v", "g", "b"))
    taken = now[: len(scanned)]
    new, out = _step(body, state, *taken)
    attributes: dict[str, int | float | str | list[int] | ir.Graph] = {
        "body": body.graph([state, *taken], [new, out], "step"),
        "num_scan_inputs": len(scanned),
    }
    first = b.op("Squeeze", past, b.ints(0))
    last, outs = b.ops("Scan", first, *scanned, attributes=attributes, outputs=2)
    keep_state(low.cache, past, tensor, b.op("Unsqueeze", last, b.ints(0), output=tensor.present))
    return b.op("Squeeze", outs, b.ints(2))


def _step(
    b: Builder, state: ir.Value, q: ir.Value, k: ir.Value, v: ir.Value, decay: ir.Value, beta: ir.Value | None = None
) -> tuple[ir.Value, ir.Value]:
    """The state [heads, keys, values] behind a token, and what it gives [heads, 1, values]."""
    kept = b.op("Mul", state, decay)
    if beta is not None:
        row = b.op("Transpose", k, attributes={"perm": [0, 2, 1]})
        v = b.op("Mul", b.op("Sub", v, b.op("MatMul", row, kept)), beta)
    new = b.op("Add", kept, b.op("Mul", k, v))
    out = b.op("MatMul", q, new)
    for value in (new, out):
        value.type = FLOAT
    return new, out


def _repeat(b: Builder, x: ir.Value, times: int, heads: int, width: int) -> ir.Value:
    """[s, heads, width] to [s, heads * times, width], each head `times` times in a row."""
    if times == 1:
        return x
    spread = b.op("Expand", b.op("Unsqueeze", x, b.ints(2)), b.ints(1, 1, times, 1))
    return b.op("Reshape", spread, b.ints(0, heads * times, width))


def recur_delta_net(b: Builder, layer: int, given: DeltaInputs, config: DeltaNet, recur: Recur) -> ir.Value:
    """See `Lowering.delta_net`, around a recurrence."""
    sizes = b.ints(config.keys, config.keys, config.values)
    q, k, v = b.ops("Split", given.mixed, sizes, attributes={"axis": -1}, outputs=3)
    q, k = (b.op("Reshape", x, b.ints(0, config.key_heads, config.key_dim)) for x in (q, k))
    q = b.op("Mul", _unit(b, q), b.constant(np.array(config.key_dim**-0.5, np.float32)))
    v = b.op("Reshape", v, b.ints(0, config.value_heads, config.value_dim))
    beta = b.op("Sigmoid", given.beta)
    steps = Steps(
        q, _unit(b, k), v, _decay(b, given, config), beta, config.key_heads, config.state, config.channel_decay
    )
    normed = rms_norm(b, recur(layer, steps), given.norm.store(b), config.norm_eps)
    gate = b.op("Reshape", given.gate, b.ints(0, config.value_heads, config.value_dim))
    opened = silu(b, gate) if config.gate == "silu" else b.op("Sigmoid", gate)
    return b.op("Reshape", b.op("Mul", normed, opened), b.ints(0, config.values))


def recur_mamba2(b: Builder, layer: int, given: MambaInputs, config: Mamba2, recur: Recur) -> ir.Value:
    """See `Lowering.mamba2`, around a recurrence."""
    width = config.groups * config.state_size
    sizes = b.ints(config.inner, width, width)
    x, before, after = b.ops("Split", given.mixed, sizes, attributes={"axis": -1}, outputs=3)
    x = b.op("Reshape", x, b.ints(0, config.heads, config.head_dim))
    k, q = (b.op("Reshape", part, b.ints(0, config.groups, config.state_size)) for part in (before, after))
    dt = b.op("Softplus", b.op("Add", given.dt, given.dt_bias.store(b)))
    least, most = config.time_step_limit
    if least > 0:
        dt = b.op("Max", dt, b.constant(np.array(least, np.float32)))
    if np.isfinite(most):
        dt = b.op("Min", dt, b.constant(np.array(most, np.float32)))
    v = b.op("Mul", x, b.op("Unsqueeze", dt, b.ints(-1)))
    steps = Steps(q, k, v, b.op("Mul", dt, given.a.store(b)), None, config.groups, config.state)
    through = b.op("Mul", x, b.op("Unsqueeze", given.d.store(b), b.ints(-1)))
    out = b.op("Reshape", b.op("Add", recur(layer, steps), through), b.ints(0, config.inner))
    gated = b.op("Mul", out, silu(b, given.gate))
    if config.norm_groups == 1:
        return rms_norm(b, gated, given.norm.store(b), config.norm_eps)
    grouped = b.op("Reshape", gated, b.ints(0, config.norm_groups, config.inner // config.norm_groups))
    ones = b.constant(np.ones(1, np.float32))
    normed = b.op("Reshape", rms_norm(b, grouped, ones, config.norm_eps), b.ints(0, config.inner))
    return b.op("Mul", normed, given.norm.store(b))


def silu(b: Builder, x: ir.Value) -> ir.Value:
    """x · sigmoid(x)."""
    return b.op("Mul", x, b.op("Sigmoid", x))


def _unit(b: Builder, x: ir.Value) -> ir.Value:
    """x / sqrt(sum x² + eps) over the last axis."""
    square = b.op("ReduceSum", b.op("Mul", x, x), b.ints(-1), attributes={"keepdims": 1})
    return b.op("Div", x, b.op("Sqrt", b.op("Add", square, b.constant(np.array(L2_EPS, np.float32)))))


def _decay(b: Builder, given: DeltaInputs, config: DeltaNet) -> ir.Value:
    """g [s, value_heads], or [s, value_heads, key_dim]: what a state is times e to the power of."""
    raw, a = b.op("Add", given.decay, given.dt_bias.store(b)), given.a.store(b)
    if config.channel_decay:
        raw = b.op("Reshape", raw, b.ints(0, config.value_heads, config.key_dim))
        a = b.op("Unsqueeze", a, b.ints(-1))
    if config.lower_bound is None:
        return b.op("Mul", b.op("Softplus", raw), a)
    opened = b.op("Sigmoid", b.op("Mul", raw, b.op("Neg", a)))
    return b.op("Mul", opened, b.constant(np.array(config.lower_bound, np.float32)))
