"""Exports on the way to a KL: what was measured of one says what to plan the next one for.

A plan's KL is expected of a trial with another text and without the kernels' own rounding. What is measured is taken
for a multiple of it, and for a line once there are two to draw it through. Pure arithmetic: who exports is bundle.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROUNDS = 3
SLACK = 0.15  # a bundle that is so much nearer than asked is made smaller once more
_MARGIN = 0.05  # that the next one is planned below what was asked


@dataclass(frozen=True)
class Round:
    """An export: the KL that its plan let expect, and the one that was measured."""

    expected: float
    measured: float


def next_aim(kl: float, rounds: Sequence[Round]) -> float | None:
    """The KL to plan the next export for, so that at most `kl` is measured; None if the last one will do."""
    last, wanted = rounds[-1], (1 - _MARGIN) * kl
    near = (1 - SLACK) * kl <= last.measured <= kl
    if near or len(rounds) == MOST_ROUNDS or not last.measured:
        return None
    if len(rounds) > 1:
        rise, run = last.measured - rounds[-2].measured, last.expected - rounds[-2].expected
        if rise * run > 0:
            return max(last.expected + (wanted - last.measured) * run / rise, 0.0)
    return wanted * last.expected / last.measured


def best_round(kl: float, rounds: Sequence[Round]) -> int:
    """The place of the one to end with: the farthest that is not too far, or else the nearest."""
    measured = [each.measured for each in rounds]
    met = [some for some in measured if some <= kl]
    return measured.index(max(met) if met else min(measured))


def tell_rounds(kl: float, rounds: Sequence[Round]) -> list[str]:
    """What a user should hear of them: by how much the KL was missed, if it was."""
    reached = rounds[best_round(kl, rounds)].measured
    if reached <= kl:
        return []
    plans = f"{len(rounds)} plan{'s' * (len(rounds) > 1)}"
    return [f"--target-kl {kl:g} is missed by {reached - kl:.2g}: {reached:.4g} was measured, the best of {plans}"]
