"""What a Linear node does beside its product, inside of ONNX Runtime: biases, activations, a share, a sum."""

from itertools import product

import numpy as np
import pytest
from kernel_graphs import INT4, linear_attributes, open_graph
from native import needs_kernels
from onnx import TensorProto

from moedge.quant.blocks import dequantize, quantize
from moedge.quant.scheme import scheme_of
from moedge.quant.tiles import tile, tile_pairs

pytestmark = needs_kernels
FLOAT = TensorProto.FLOAT


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# Of pairs, of the gate and of up; relu2 has none.
ACTIVATIONS = {
    "swiglu": lambda gate, up: gate / (1 + np.exp(-gate)) * up,
    "geglu_tanh": lambda gate, up: gelu_tanh(gate) * up,
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}


class Layer:
    """A matrix [rows, columns], or two in turn, with biases, for 37 tokens."""

    def __init__(self, rows, columns, activation, scheme=INT4):
        self.rows, self.columns, self.activation, self.scheme = rows, columns, activation, scheme
        gated = activation in {"swiglu", "geglu_tanh"}
        codes = quantize(random(rows * (1 + gated), columns, seed=1) / columns**0.5, scheme)
        self.tiles = (tile_pairs if gated else tile)(codes, scheme)
        self.weights = dequantize(codes).astype(np.float64)
        self.given = {
            "x": 2 * random(37, columns, seed=2),
            "bias": random(rows * (1 + gated), seed=3),
            "share": random(37, 1, seed=4),
            "onto": random(37, rows, seed=5),
        }

    def open(self, parts, threads=1, bits=8):
        """A session that takes x, tile rows and these parts."""
        told = linear_attributes(self.rows, self.columns, self.scheme, activation_bits=bits)
        told["activation"] = self.activation
        kinds = {name: FLOAT if name in parts else None for name in ("bias", "share", "onto")}
        given = {"x": FLOAT, "w": TensorProto.UINT8, **kinds}
        return open_graph("Linear", given, {}, told, threads)

    def run(self, session, parts, rows=slice(None)):
        """What it gives for some of the tokens."""
        feeds = {n: self.given[n] if n == "bias" else self.given[n][rows] for n in ("x", *parts)}
        return session.run(None, feeds | {"w": self.tiles})[0]

    def expect(self, parts):
        """The same in double precision."""
        y = self.given["x"] @ self.weights.T + (self.given["bias"] if "bias" in parts else 0)
        if self.activation != "none":
            sides = [y] if self.activation == "relu2" else [y[:, ::2], y[:, 1::2]]
            y = ACTIVATIONS[self.activation](*sides)
        y = y * (self.given["share"] if "share" in parts else 1)
        return y + (self.given["onto"] if "onto" in parts else 0)


PARTS = [tuple(part for part in which if part) for which in product(("bias", ""), ("share", ""), ("onto", ""))]
SHAPES = {"whole tiles": (64, 128), "a part of a tile": (37, 64), "many": (1100, 128)}


@pytest.mark.parametrize("parts", PARTS, ids="-".join)
@pytest.mark.parametrize("activation", ["none", *ACTIVATIONS])
def test_what_is_added_and_multiplied(activation, parts):
    for shape in SHAPES.values():
        layer = Layer(*shape, activation)
        right = layer.expect(parts)
        for bits, bound in ((8, 0.03), (16, 3e-4), (24, 5e-6)):
            sessions = [layer.open(parts, threads, bits) for threads in (1, 2, 8)]
            whole, *others = (layer.run(session, parts) for session in sessions)
            assert np.abs(whole - right).max() < bound * np.abs(right).max()
            alone = np.concatenate([layer.run(sessions[1], parts, slice(i, i + 1)) for i in range(37)])
            fives = np.concatenate([layer.run(sessions[2], parts, slice(i, i + 5)) for i in range(0, 37, 5)])
            assert all(np.array_equal(whole, other) for other in (*others, alone, fives))


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_a_gate_of_every_width_of_codes(bits):
    layer = Layer(70, 128, "swiglu", scheme_of(bits, 32, True, "float16"))
    right = layer.expect(("bias",))
    assert np.abs(layer.run(layer.open(("bias",)), ("bias",)) - right).max() < 0.03 * np.abs(right).max()


@pytest.mark.parametrize("part", ["bias", "share", "onto"])
def test_parts_that_do_not_fit(part):
    layer = Layer(32, 64, "swiglu")
    session = layer.open((part,))
    layer.given[part] = np.concatenate([layer.given[part], layer.given[part]])
    with pytest.raises(Exception, match=r"moedge\.Linear: (shapes do not fit|what is added does not fit)"):
        session.run(None, {"x": layer.given["x"], "w": layer.tiles, part: layer.given[part]})


def test_tile_rows_of_a_plain_matrix_are_no_pairs():
    plain, gated = Layer(32, 64, "relu2"), Layer(32, 64, "geglu_tanh")
    with pytest.raises(Exception, match=r"moedge\.Linear: shapes do not fit"):
        gated.open(()).run(None, {"x": gated.given["x"], "w": plain.tiles})
