"""What `--target-size` and `--target-kl` say, and the schemes that a plan for them chooses from.

Which of them a group of a layer gets is measured: export/sensitivity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from moedge.devices.errors import MoedgeError
from moedge.export.schemes import parse_changes, spell
from moedge.quant.plan import SchemePlan
from moedge.quant.scheme import Scheme, scheme_of
from moedge.runtime.manifest import DENSE_MLP, EMBEDDING, LM_HEAD, ROUTED_EXPERTS, SHARED_EXPERTS

_UNITS: Final = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    "TiB": 2**40,
}  # fmt: skip
_SIZE: Final = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[A-Za-z]*)")
_FOUR, _EIGHT = scheme_of(4, 32, True), scheme_of(8, 32)
_TABLE: Final = scheme_of(5, 64), scheme_of(6, 64), _EIGHT
_EXPERTS: Final = _FOUR, scheme_of(5, 32), scheme_of(6, 64), _EIGHT
_OTHERS: Final = _FOUR, scheme_of(5, 64), scheme_of(6, 64), _EIGHT
_LADDERS: Final = {
    EMBEDDING: _TABLE, LM_HEAD: _TABLE, DENSE_MLP: _EXPERTS, SHARED_EXPERTS: _EXPERTS, ROUTED_EXPERTS: _EXPERTS,
}  # fmt: skip


@dataclass(frozen=True)
class TargetSize:
    """At most so many bytes of weights.bin."""

    nbytes: int

    @property
    def name(self) -> str:
        """What plans and reports call it."""
        return f"target-size {self.nbytes}"


@dataclass(frozen=True)
class TargetKl:
    """At most that divergence from the fp32 model, nats a token."""

    kl: float

    @property
    def name(self) -> str:
        """What plans and reports call it."""
        return f"target-kl {self.kl!r}"


Target = TargetSize | TargetKl


def parse_target(size: str | None, kl: float | None) -> Target | None:
    """The target that the options say, None without either; MoedgeError for nonsense."""
    if size is not None and kl is not None:
        raise MoedgeError("--target-size and --target-kl are given together: leave one out.")
    if size is not None:
        return TargetSize(parse_size(size))
    if kl is None:
        return None
    if not 0 < kl < float("inf"):
        raise MoedgeError(f"--target-kl {kl:g} is no divergence that can be reached: give one above 0, like 0.05.")
    return TargetKl(kl)


def parse_size(text: str) -> int:
    """Bytes of a size like 900MB, 1.5GB, 800MiB, or a plain number; MoedgeError for nonsense."""
    match = _SIZE.fullmatch(text.strip())
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if match is None or match["unit"].lower() not in units:
        raise MoedgeError(
            f"--target-size {text} is no size: give one like 900MB, 1.5GB or 800MiB; "
            f"units are {', '.join(filter(None, _UNITS))}."
        )
    nbytes = int(float(match["number"]) * units[match["unit"].lower()])
    if not nbytes:
        raise MoedgeError(f"--target-size {text} holds nothing: give one like 900MB.")
    return nbytes


def plan_cheapest(target: Target, changes: Sequence[str]) -> SchemePlan:
    """The plan with which the choice begins: the fewest bytes, but for groups that `changes` like "attention=int8" fix.

    MoedgeError for changes that are not known.
    """
    fixed = parse_changes(changes)
    named = (f"{spell(group)}={fixed[group].name}" for group in sorted(fixed))
    lowest = {group: ladder[0] for group, ladder in _LADDERS.items()}
    return SchemePlan(", ".join([target.name, *named]), _OTHERS[0], {**lowest, **fixed}, frozenset(fixed))


def ladder_of(group: str, whole_bytes: bool) -> tuple[Scheme, ...]:
    """The schemes that a group's matrices may get; `whole_bytes`: none whose codes have 5 or 6 bits."""
    ladder = _LADDERS.get(group, _OTHERS)
    return tuple(scheme for scheme in ladder if not whole_bytes or scheme.widened == scheme)
