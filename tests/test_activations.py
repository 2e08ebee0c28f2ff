"""What calibration makes of an expert's gate and up-projection is what torch makes of them."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from moedge.export.calibration.statistics import activate
from moedge.export.model.config import GEGLU, RELU2, SILU, Gate

JOINED = np.random.default_rng(0).standard_normal((7, 20)).astype(np.float32) * 4
BOUNDED = Gate(alpha=1.702, beta=1.0, limit=2.0)


def bounded(gate, up):
    gate, up = gate.clamp(max=2.0), up.clamp(-2.0, 2.0)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


@pytest.mark.parametrize(
    ("gate", "theirs"),
    [
        (SILU, lambda gate, up: functional.silu(gate) * up),
        (GEGLU, lambda gate, up: functional.gelu(gate, approximate="tanh") * up),
        (BOUNDED, bounded),
    ],
)
def test_gate_and_up_in_turn(gate, theirs):
    expected = theirs(*(torch.from_numpy(JOINED[:, place::2].copy()) for place in (0, 1))).numpy()
    np.testing.assert_allclose(activate(gate, JOINED), expected, rtol=1e-5, atol=1e-6)


def test_up_alone():
    expected = functional.relu(torch.from_numpy(JOINED)).square().numpy()
    np.testing.assert_allclose(activate(RELU2, JOINED), expected, rtol=1e-6)
