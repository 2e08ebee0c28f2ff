"""Mixers that keep a state of one size, whatever the length: linear attention by a delta rule, and Mamba-2.

Both send their inputs through a causal convolution of each channel first, with SiLU behind it. What decides how much of
the state is forgotten is computed in fp32 whatever the scheme.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DeltaNet:
    """Linear attention by the gated delta rule (arXiv:2412.06464); with `channel_decay`, Kimi's (arXiv:2510.26692).

    q, k, v = silu(conv(·)); q and k are divided by their lengths, q times key_dim^-1/2. Of the state S [key_dim,
    value_dim] of a value head: S ← e^g S;  S ← S + k (sigmoid(b) (v - kᵀS))ᵀ;  out = qᵀS, normalized over value_dim and
    times gate(z). g = -e^A_log softplus(a + dt_bias), or lower_bound · sigmoid(e^A_log (a + dt_bias)).
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    norm_eps: float
    layout: Literal[
        "split", "grouped", "kda", "kda_wide"
    ]  # how the projections stand in the checkpoint; see graph/delta_net.py
    channel_decay: bool = False  # a and g are one number a channel of k, not one a head
    gate: Literal["silu", "sigmoid"] = "silu"
    lower_bound: float | None = None

    @property
    def keys(self) -> int:
        """Channels of k, and of q."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Channels of v, of z and of the result."""
        return self.value_heads * self.value_dim

    @property
    def convolved(self) -> int:
        """Channels of q, k and v."""
        return 2 * self.keys + self.values

    @property
    def decays(self) -> int:
        """Numbers that say how much is forgotten."""
        return self.value_heads * (self.key_dim if self.channel_decay else 1)

    @property
    def state(self) -> tuple[int, int, int]:
        """The shape of what is kept."""
        return self.value_heads, self.key_dim, self.value_dim


@dataclass(frozen=True)
class Mamba2:
    """Mamba-2 (arXiv:2405.21060).

    x, B, C = silu(conv(·)); dt = softplus(dt + dt_bias) within the limits. Of the state S [state_size, head_dim] of a
    head: S ← e^(dt A) S + B (dt x)ᵀ;  y = CᵀS + D x. The result is y · silu(z), normalized within groups of channels.
    """

    heads: int
    head_dim: int
    groups: int  # that share B and C, and are normalized together
    state_size: int
    kernel: int
    norm_eps: float
    norm_groups: int
    bias: bool = False  # on the projections
    kernel_bias: bool = True
    time_step_limit: tuple[float, float] = (0.0, float("inf"))

    @property
    def inner(self) -> int:
        """Channels of x, of z and of the result."""
        return self.heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Channels of x, B and C."""
        return self.inner + 2 * self.groups * self.state_size

    @property
    def state(self) -> tuple[int, int, int]:
        """The shape of what is kept."""
        return self.heads, self.state_size, self.head_dim


Recurrent = DeltaNet | Mamba2
