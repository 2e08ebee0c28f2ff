"""One node over a state: CausalConvolution, DeltaNet or Mamba2; what it is given, and the same in double precision.

Row 0 of a memory is zeros, which what begins a timeline reads; all other rows are no numbers until they are written.
"""

from dataclasses import dataclass, field

import numpy as np
from latent_cases import FLOAT, INT64, open_node


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def normal(rng, *shape):
    """fp32 numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def by_root_mean_square(x, eps):
    """What RMSNorm is without its weight, of the last axis."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def make_memory(case, rows=6):
    """One that no timeline has written yet."""
    memory = np.full((rows, *case.state), np.nan, np.float32)
    memory[0] = 0
    return memory


def run_node(session, given, segments, memory):
    """The first output for segments (tokens, row that is read, row that is written); `memory` gets what is kept."""
    told = {
        "segments": np.array([(0, 0, new) for new, *_ in segments], np.int64).reshape(-1, 3),
        "states": np.array([rows for _, *rows in segments], np.int64).reshape(-1, 2),
    }
    binding = session.io_binding()
    for name, array in (given | told | {"memory": memory}).items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("out", "cpu")
    binding.bind_output("present", "cpu", 0, np.float32, memory.shape, memory.ctypes.data)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def part(given, first, last):
    """Some tokens of what a node is given."""
    return {name: np.ascontiguousarray(array[first:last]) for name, array in given.items()}


def join(*parts):
    """What several timelines give, one after the other."""
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def in_steps(case, session, given, memory, steps, first=0):
    """One timeline's tokens in steps of so many, its state in rows 1 and 2 in turn, from row `first` on."""
    found, at, read = [], 0, first
    for i, new in enumerate(steps):
        written = 1 + i % 2
        found.append(run_node(session, part(given, at, at + new), [(new, read, written)], memory))
        at, read = at + new, written
    return np.concatenate(found), memory[read].copy()


@dataclass(frozen=True)
class Causal:
    """A CausalConvolution node."""

    channels: int = 48
    kernel: int = 4
    bias: bool = True
    constants: dict[str, np.ndarray | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        rng = np.random.default_rng(0)
        taps, bias = normal(rng, self.kernel, self.channels), normal(rng, self.channels)
        object.__setattr__(self, "constants", {"taps": taps, "bias": bias if self.bias else None})

    @property
    def state(self):
        """The shape of what is kept."""
        return self.kernel - 1, self.channels

    def given(self, tokens, seed=1):
        """What new tokens are given."""
        return {"x": normal(np.random.default_rng(seed), tokens, self.channels)}

    def open(self, threads=1, **others):
        """A session of the node."""
        told = {"channels": self.channels, "kernel": self.kernel, "layer": 0} | others
        given = {"x": FLOAT, "memory": FLOAT, "segments": INT64, "states": INT64}
        return open_node("CausalConvolution", given, self.constants, {"out": FLOAT, "present": FLOAT}, told, threads)

    def expect(self, given, state):
        """Of tokens behind a state, and the state behind them."""
        rows = np.concatenate([state, given["x"]]).astype(np.float64)
        tokens = len(given["x"])
        y = sum(rows[j : j + tokens] * self.constants["taps"][j] for j in range(self.kernel))
        y = y + (self.constants["bias"] if self.bias else 0)
        return y * sigmoid(y), rows[tokens:]


@dataclass(frozen=True)
class Delta:
    """A DeltaNet node."""

    key_heads: int = 2
    value_heads: int = 4
    key_dim: int = 32
    value_dim: int = 48
    per_channel: bool = False
    bounded: bool = False
    gate: str = "silu"
    rate: float = 1.0  # about how much is forgotten
    constants: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        rng = np.random.default_rng(0)
        made = {
            "A": -self.rate * np.exp(0.5 * normal(rng, self.value_heads)),
            "dt_bias": normal(rng, self.decays),
            "norm": rng.random(self.value_dim).astype(np.float32) + 0.5,
        }
        object.__setattr__(self, "constants", {name: array.astype(np.float32) for name, array in made.items()})

    @property
    def decays(self):
        """Numbers that tell what is forgotten."""
        return self.value_heads * (self.key_dim if self.per_channel else 1)

    @property
    def state(self):
        """The shape of what is kept."""
        return self.value_heads, self.key_dim, self.value_dim

    def given(self, tokens, seed=1):
        """What new tokens are given."""
        rng = np.random.default_rng(seed)
        values = self.value_heads * self.value_dim
        mixed = normal(rng, tokens, 2 * self.key_heads * self.key_dim + values)
        gate, beta = normal(rng, tokens, values) * 2, normal(rng, tokens, self.value_heads)
        return {"mixed": mixed, "gate": gate, "beta": beta, "decay": normal(rng, tokens, self.decays) * 2}

    def open(self, threads=1, **others):
        """A session of the node."""
        told = {name: getattr(self, name) for name in ("key_heads", "value_heads", "key_dim", "value_dim")}
        told |= {"scale": self.key_dim**-0.5, "eps": 1e-6, "per_channel": int(self.per_channel), "lower_bound": -5.0}
        told |= {"decay": "bounded" if self.bounded else "softplus", "gate_activation": self.gate, "layer": 0}
        given = dict.fromkeys(("mixed", "gate", "beta", "decay", "memory"), FLOAT)
        given |= {"segments": INT64, "states": INT64}
        return open_node("DeltaNet", given, self.constants, {"out": FLOAT, "present": FLOAT}, told | others, threads)

    def expect(self, given, state):
        """Of tokens behind a state, and the state behind them."""
        tokens, keys, group = len(given["mixed"]), self.key_heads * self.key_dim, self.value_heads // self.key_heads
        q, k, v = np.split(given["mixed"].astype(np.float64), [keys, 2 * keys], axis=1)
        q, k = (x.reshape(tokens, self.key_heads, self.key_dim).repeat(group, 1) for x in (q, k))
        q, k = (x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6) for x in (q, k))
        v = v.reshape(tokens, self.value_heads, self.value_dim)
        raw = (given["decay"].astype(np.float64) + self.constants["dt_bias"]).reshape(tokens, self.value_heads, -1)
        rate = self.constants["A"].astype(np.float64)[:, None]
        decay = np.exp(-5.0 * sigmoid(-rate * raw) if self.bounded else rate * np.logaddexp(0, raw))
        share = sigmoid(given["beta"].astype(np.float64))
        out, s = np.zeros(v.shape), state.astype(np.float64)
        for t in range(tokens):
            s = s * decay[t][:, :, None]
            miss = share[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", s, k[t]))
            s = s + np.einsum("hk,hv->hkv", k[t], miss)
            out[t] = np.einsum("hkv,hk->hv", s, q[t]) * self.key_dim**-0.5
        gate = given["gate"].astype(np.float64).reshape(v.shape)
        gate = gate * sigmoid(gate) if self.gate == "silu" else sigmoid(gate)
        return (by_root_mean_square(out, 1e-6) * self.constants["norm"] * gate).reshape(tokens, -1), s


@dataclass(frozen=True)
class Selective:
    """A Mamba2 node."""

    heads: int = 4
    head_dim: int = 32
    groups: int = 2
    size: int = 24  # rows of a head's state
    norm_groups: int = 2
    limits: tuple[float, float] = (0.0, 3.4e38)
    constants: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        rng = np.random.default_rng(0)
        made = {
            "A": -np.exp(normal(rng, self.heads)),
            "dt_bias": normal(rng, self.heads),
            "D": normal(rng, self.heads),
            "norm": rng.random(self.heads * self.head_dim) + 0.5,
        }
        object.__setattr__(self, "constants", {name: array.astype(np.float32) for name, array in made.items()})

    @property
    def state(self):
        """The shape of what is kept."""
        return self.heads, self.size, self.head_dim

    def given(self, tokens, seed=1):
        """What new tokens are given."""
        rng, inner = np.random.default_rng(seed), self.heads * self.head_dim
        mixed = normal(rng, tokens, inner + 2 * self.groups * self.size)
        return {"mixed": mixed, "gate": normal(rng, tokens, inner) * 2, "dt": normal(rng, tokens, self.heads) * 2}

    def open(self, threads=1, **others):
        """A session of the node."""
        told = {name: getattr(self, name) for name in ("heads", "head_dim", "groups", "norm_groups")}
        told |= {"state": self.size, "eps": 1e-5, "dt_min": self.limits[0], "dt_max": self.limits[1], "layer": 0}
        given = dict.fromkeys(("mixed", "gate", "dt", "memory"), FLOAT) | {"segments": INT64, "states": INT64}
        return open_node("Mamba2", given, self.constants, {"out": FLOAT, "present": FLOAT}, told | others, threads)

    def expect(self, given, state):
        """Of tokens behind a state, and the state behind them."""
        tokens, inner = len(given["mixed"]), self.heads * self.head_dim
        x, b, c = np.split(given["mixed"].astype(np.float64), [inner, inner + self.groups * self.size], axis=1)
        x = x.reshape(tokens, self.heads, self.head_dim)
        b, c = (y.reshape(tokens, self.groups, self.size).repeat(self.heads // self.groups, 1) for y in (b, c))
        steps = np.clip(np.logaddexp(0, given["dt"].astype(np.float64) + self.constants["dt_bias"]), *self.limits)
        y, s = np.zeros(x.shape), state.astype(np.float64)
        for t in range(tokens):
            s = s * np.exp(steps[t] * self.constants["A"])[:, None, None]
            s = s + np.einsum("hn,hd->hnd", b[t], steps[t][:, None] * x[t])
            y[t] = np.einsum("hn,hnd->hd", c[t], s) + self.constants["D"][:, None] * x[t]
        gate = given["gate"].astype(np.float64)
        y = (y.reshape(tokens, -1) * gate * sigmoid(gate)).reshape(tokens, self.norm_groups, -1)
        return by_root_mean_square(y, 1e-5).reshape(tokens, -1) * self.constants["norm"], s
