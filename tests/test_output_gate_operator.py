"""moedge.OutputGate inside of ONNX Runtime against double precision."""

import numpy as np
import pytest
from attention_cases import error
from latent_cases import FLOAT, open_node
from native import needs_kernels

pytestmark = needs_kernels
RNG = np.random.default_rng(0)


def open_gate(width, gates, activation, threads=1):
    return open_node("OutputGate", {"x": FLOAT, "gate": FLOAT}, {}, {"out": FLOAT},
                     {"width": width, "gates": gates, "activation": activation}, threads)  # fmt: skip


def given(tokens, width, gates):
    x = RNG.standard_normal((tokens, width)).astype(np.float32)
    gate = RNG.standard_normal((tokens, gates)).astype(np.float32) * 8
    gate[0, :2] = -90, 90
    return {"x": x, "gate": gate}


def expect(x, gate, activation):
    raw = gate.astype(np.float64)
    opened = 1 / (1 + np.exp(-raw)) if activation == "sigmoid" else np.logaddexp(0, raw)
    return x * np.repeat(opened, x.shape[1] // gate.shape[1], axis=1)


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
@pytest.mark.parametrize(("width", "gates"), [(96, 96), (96, 6), (1300, 1300), (40, 5), (20000, 2)])
def test_each_number_is_gated(width, gates, activation):
    feeds = given(9, width, gates)
    [found] = open_gate(width, gates, activation, 2).run(None, feeds)
    assert error(found, expect(feeds["x"], feeds["gate"], activation)) < 1e-6


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
def test_a_token_is_the_same_beside_others(activation):
    feeds = given(200, 84, 7)
    [whole] = open_gate(84, 7, activation, 8).run(None, feeds)
    session = open_gate(84, 7, activation)
    for at in range(0, 200, 13):
        [one] = session.run(None, {name: array[at : at + 1] for name, array in feeds.items()})
        np.testing.assert_array_equal(one[0], whole[at])


def test_what_does_not_fit_is_refused():
    feeds = given(3, 96, 6)
    with pytest.raises(Exception, match=r"moedge\.OutputGate: what is gated does not fit"):
        open_gate(90, 6, "sigmoid").run(None, feeds)
    with pytest.raises(Exception, match=r"moedge\.OutputGate: the gates do not fit"):
        open_gate(96, 8, "sigmoid").run(None, feeds)
    with pytest.raises(Exception, match="attribute gates is missing or has a value"):
        open_gate(96, 7, "sigmoid")
    with pytest.raises(Exception, match="attribute activation is missing or has a value"):
        open_gate(96, 6, "tanh")
