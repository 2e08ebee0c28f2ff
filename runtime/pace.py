"""How prompts are cut into runs: how many tokens at once, so that answers being written wait no longer than promised.

What a run takes is forecast from the device's rates, held to what runs have taken. Where a prompt is cut does not
change what it gives: cuts stand at multiples of a unit, and what is left is enough for the same kernels.
"""

from dataclasses import dataclass, field
from threading import Lock

from moedge.devices.forecast import TokenWork, chunk_seconds
from moedge.devices.rates import Rates

# Tokens. Attention takes another way through few of them (TILED_TOKENS of kernels/attend.h), whose bits differ.
UNIT = 32
# Latent attention takes a third way through many, which is nearest to what most of a long prompt takes.
LATENT_UNIT = 128
_TRUST = 0.3  # in a new measurement


@dataclass
class Pace:
    """Of one model on one device; any thread may note and ask. `seconds` is how long others may have to wait."""

    work: TokenWork
    rates: Rates
    seconds: float
    _slower: float = 1.0  # than forecast
    _lock: Lock = field(default_factory=Lock, repr=False)

    def note(self, tokens: int, past: int, seconds: float) -> None:
        """A run of so many tokens of a prompt after `past` others took so long."""
        seen = seconds / chunk_seconds(self.work, self.rates, tokens, past)
        with self._lock:
            self._slower += _TRUST * (min(seen, 16 * self._slower) - self._slower)

    def longest(self, past: int, unit: int, most: int) -> int:
        """How many tokens after `past` others the promised time holds: whole units, one at least."""
        with self._lock:
            allowed = self.seconds / self._slower
        tokens = max(unit, most // unit * unit)
        while tokens > unit and chunk_seconds(self.work, self.rates, tokens, past) > allowed:
            tokens -= unit
        return tokens


def unit_of(work: TokenWork, rates: Rates, seconds: float, latent: bool) -> int:
    """At multiples of what prompts are cut. A slow device cuts latent attention shorter, at a few bits' difference."""
    fits = chunk_seconds(work, rates, LATENT_UNIT, 0) <= seconds
    return LATENT_UNIT if latent and fits else UNIT


def cut(past: int, left: int, longest: int, unit: int) -> int:
    """How many of a prompt's `left` tokens the next run takes, where `past` are in the cache: `longest` or a bit more.

    With a unit of 1 exactly as many as there are, `longest` at most.
    """
    if left <= longest or unit == 1:
        return min(left, longest)
    end = (past + longest) // unit * unit
    if past + left - end < UNIT:
        end = (past + left - UNIT) // unit * unit
    return end - past if end > past else left


def cut_before_end(past: int, left: int, unit: int) -> int:
    """How many of a prompt's last tokens the next run takes where states are kept between runs: all but the last few.

    The next prompt of a conversation mostly parts from this one shortly before its end, where templates open the
    answer.
    """
    end = (past + left - UNIT) // unit * unit
    return end - past if end - past >= UNIT else left
