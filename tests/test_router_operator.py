"""moedge.Router inside of ONNX Runtime against double precision: every kind of router, alone and together."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from native import needs_kernels
from onnx import TensorProto, helper, numpy_helper

from moedge.runtime.kernels.library import find_library

pytestmark = needs_kernels


@dataclass(frozen=True)
class Case:
    """A router with random weights, `size` times as large as usual ones."""

    scoring: str = "softmax"
    experts: int = 24
    hidden: int = 64
    k: int = 4
    normalize: int = 0
    eps: float = 0.0
    least_sum: float = 0.0
    jitter: float = 0.0
    groups: int = 1
    open_groups: int = 1
    group_best: int = 2
    bias: bool = False
    correction: bool = False
    size: float = 1.0
    softcap: float | None = None  # None: the node has no such attribute

    def weights(self):
        """(weight, bias, correction), None where there is none."""
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((self.experts, self.hidden)) * self.size / self.hidden**0.5
        biases = [rng.standard_normal(self.experts) * 0.3 for _ in range(2)]
        there = [biases[0] if self.bias else None, biases[1] if self.correction else None]
        return [None if a is None else a.astype(np.float32) for a in (weight, *there)]

    def open(self, threads=1, **changes):
        """A session of the node; without a scoring it has no second output."""
        names = ("experts", "hidden", "k", "scoring", "normalize", "eps", "least_sum", "jitter")
        told = {n: getattr(self, n) for n in (*names, "groups", "open_groups", "group_best")} | changes
        if self.softcap is not None:
            told = {"softcap": self.softcap} | told
        arrays = dict(zip(("weight", "bias", "correction"), self.weights(), strict=True))
        outputs = ["select"] if self.scoring == "none" else ["select", "weigh"]
        inputs = ["x", *(name if array is not None else "" for name, array in arrays.items())]
        node = helper.make_node("Router", inputs, outputs, domain="moedge", **told)
        graph = helper.make_graph(
            [node],
            "router",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in arrays.items() if array is not None],
        )
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.register_custom_ops_library(str(find_library()))
        model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def expect(self, x):
        """(select, weigh) in double precision."""
        weight, bias, correction = self.weights()
        logits = x.astype(np.float64) @ weight.T.astype(np.float64) + (0 if bias is None else bias)
        if self.softcap:
            logits = self.softcap * np.tanh(logits / self.softcap)
        if self.scoring == "none":
            return logits, None
        if self.scoring == "sparsemixer":
            return logits, np.stack([self.mix(row) for row in logits])
        e = np.exp(logits - logits.max(1, keepdims=True))
        scores = e / e.sum(1, keepdims=True) if self.scoring == "softmax" else 1 / (1 + np.exp(-logits))
        select = logits.copy()
        if correction is not None or self.groups > 1:
            select = scores + (0 if correction is None else correction)
        if self.groups > 1:
            grouped = select.reshape(len(x), self.groups, -1)
            sums = np.sort(grouped, axis=2)[:, :, -self.group_best :].sum(2)
            least = np.sort(sums, axis=1)[:, -self.open_groups, None]
            select = np.where((sums < least)[:, :, None], -np.inf, grouped).reshape(len(x), -1)
        if self.normalize:
            chosen = np.argsort(-select, axis=1, kind="stable")[:, : self.k]
            total = np.take_along_axis(scores, chosen, 1).sum(1, keepdims=True) + self.eps
            scores = scores / np.maximum(total, self.least_sum)
        return select, scores

    def mix(self, logits):
        """What each of the chosen counts by sparsemixer, the others 0."""
        weigh, left = np.zeros_like(logits), logits.copy()
        for _ in range(self.k):
            best = left.max()
            far = (best - logits) / np.maximum(np.abs(logits), best) > 2 * self.jitter
            shares = np.where(far, 0, np.exp(left - best))
            weigh[left == best] = 1 / shares.sum()
            left[left == best] = -np.inf
        return weigh


CASES = {
    "logits": Case("none"),
    "logits with a bias": Case("none", bias=True, hidden=37),
    "softmax": Case(),
    "softmax of many": Case(experts=400, hidden=100, k=8),
    "softmax, the best groups": Case(groups=6, open_groups=2, group_best=1, normalize=1, eps=1e-20),
    "softmax, correction, a least sum": Case(correction=True, normalize=1, least_sum=0.4),
    "sigmoid": Case("sigmoid"),
    "sigmoid, normalized": Case("sigmoid", normalize=1, eps=1e-6, bias=True),
    "sigmoid, correction, groups": Case(
        "sigmoid", correction=True, groups=4, open_groups=2, normalize=1, eps=1e-20, experts=256, hidden=1000, k=8
    ),
    "scores that are all 0 or 1": Case("sigmoid", correction=True, normalize=1, eps=1e-20, size=40),
    "tiny scores": Case("softmax", normalize=1, correction=True, size=30),
    "sparsemixer": Case("sparsemixer", k=2, jitter=0.05),
    "sparsemixer, wide": Case("sparsemixer", k=4, jitter=0.4, experts=17),
    "capped logits": Case("none", bias=True, softcap=2.0),
    "softmax, hardly capped": Case(softcap=30.0, normalize=1, eps=1e-20),
    "sigmoid, capped": Case("sigmoid", softcap=0.7, correction=True, normalize=1, eps=1e-20, size=3),
    "sparsemixer, capped": Case("sparsemixer", k=2, jitter=0.05, softcap=1.5),
    "a cap of none": Case(softcap=0.0),
    "one expert": Case("sigmoid", experts=1, k=1, hidden=200),
}


def hidden_states(case, tokens):
    return np.random.default_rng(1).standard_normal((tokens, case.hidden)).astype(np.float32)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_kind_is_what_it_says(case):
    """Relatively: a small score weighs what it is."""
    x = hidden_states(case, 70)
    right, found = case.expect(x), case.open().run(None, {"x": x})
    if case.scoring == "none":
        assert len(found) == 1
    assert np.array_equal(np.isfinite(found[0]), np.isfinite(right[0]))
    inside = np.isfinite(right[0])
    assert np.abs(found[0][inside] - right[0][inside]).max() < 3e-6 * max(1, np.abs(right[0][inside]).max())
    for mine, exact in zip(found[1:], right[1:], strict=False):
        error = np.abs(mine - exact) / np.maximum(np.abs(exact), 1e-30)
        # where logits are large, their last digits are what an exponential makes of them
        assert error[exact > 1e-30].max() < 4e-6 * max(1, case.size)
        assert np.abs(mine[exact <= 1e-30]).max(initial=0) < 1e-28


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_token_is_the_same_bits_in_any_company(case):
    x = hidden_states(case, 70)
    sessions = [case.open(threads) for threads in (1, 2, 8)]
    whole = [session.run(None, {"x": x}) for session in sessions]
    for other in whole[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(whole[0], other, strict=True))
    for step in (1, 3, 15, 33):
        parts = [sessions[1].run(None, {"x": x[at : at + step]}) for at in range(0, 70, step)]
        for mine, part in zip(whole[0], zip(*parts, strict=True), strict=True):
            assert np.array_equal(mine, np.concatenate(part))


def test_equal_scores():
    """Of two, sparsemixer takes both in one turn; the best group's ties leave both open."""
    case = Case("sparsemixer", experts=3, hidden=16, k=3, jitter=0.5)
    _, weigh = case.open().run(None, {"x": np.zeros((1, 16), np.float32)})
    assert np.allclose(weigh, 1 / 3)
    case = Case("sigmoid", experts=6, hidden=16, k=2, groups=3, open_groups=1)
    select, _ = case.open().run(None, {"x": np.zeros((1, 16), np.float32)})
    assert (select == 0.5).all()


def test_what_is_no_number_stays_with_its_token():
    for case in CASES.values():
        x = hidden_states(case, 20)
        session = case.open(2)
        clean = session.run(None, {"x": x})
        x[3, 5] = np.nan
        for mine, before in zip(session.run(None, {"x": x}), clean, strict=True):
            assert np.array_equal(np.delete(mine, 3, 0), np.delete(before, 3, 0))
        assert np.isnan(session.run(None, {"x": x})[0][3]).all() or case.groups > 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"scoring": "tanh"},
        {"k": 0},
        {"k": 25},
        {"groups": 5},
        {"open_groups": 2},
        {"normalize": 2},
        {"group_best": 0},
        {"softcap": -1.0},
        {"softcap": 30},
    ],
)
def test_an_attribute_that_does_not_fit(wrong):
    with pytest.raises(Exception, match=rf"moedge\.Router: attribute {next(iter(wrong))} is missing or has"):
        Case().open(**wrong)


def test_shapes_that_do_not_fit():
    with pytest.raises(Exception, match=r"moedge\.Router: hidden states do not fit"):
        Case().open().run(None, {"x": np.zeros((2, 63), np.float32)})
    with pytest.raises(Exception, match=r"moedge\.Router: weights do not fit"):
        Case().open(experts=12).run(None, {"x": np.zeros((2, 64), np.float32)})
    select, weigh = Case().open().run(None, {"x": np.zeros((0, 64), np.float32)})
    assert select.shape == weigh.shape == (0, 24)
