"""What `--scheme` and `--group` say, as a `SchemePlan`: names of plans, and which groups of tensors a scheme reaches.

What a scheme is and which there are is quant/scheme.py's.
"""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from moedge.devices.errors import MoedgeError
from moedge.quant.plan import SchemePlan
from moedge.quant.scheme import SCHEME_NAMES, Scheme, parse_scheme, scheme_of
from moedge.runtime.manifest import (
    ATTENTION,
    CONVOLUTION,
    DENSE_MLP,
    EMBEDDING,
    LM_HEAD,
    ROUTED_EXPERTS,
    SHARED_EXPERTS,
    GroupName,
)

# All other groups are kept in fp32.
QUANTIZABLE: Final[tuple[GroupName, ...]] = (
    EMBEDDING, LM_HEAD, ATTENTION, CONVOLUTION, DENSE_MLP, SHARED_EXPERTS, ROUTED_EXPERTS,
)  # fmt: skip
# A table at 4 bits costs a quarter of all that int4 loses, and is a small part of a model: see docs/quantization.md.
TABLE = scheme_of(8, 32)
_FOUR, _FIVE, _SIX = scheme_of(4, 32, True), scheme_of(5, 32), scheme_of(6, 32)
_TABLE: Final = {EMBEDDING: scheme_of(6, 64), LM_HEAD: scheme_of(6, 64)}
# What each of them costs and loses: docs/quantization.md.
PLANS: Final = {
    plan.name: plan
    for plan in (
        SchemePlan("fast", scheme_of(5, 64), {**_TABLE, ROUTED_EXPERTS: _FOUR}),
        SchemePlan("balanced", scheme_of(5, 64), {**_TABLE, ROUTED_EXPERTS: _FOUR}, raised={ROUTED_EXPERTS: _FIVE}),
        SchemePlan("faithful", _SIX, {**_TABLE, ROUTED_EXPERTS: _FIVE}, raised={ROUTED_EXPERTS: _SIX}),
    )
}
DEFAULT: Final = "balanced"
SCHEME_CHOICES: Final = (*PLANS, *SCHEME_NAMES)


def parse_plan(name: str, changes: Sequence[str] = ()) -> SchemePlan:
    """The plan of that name, or of a scheme's name, with `changes` like "attention=int8".

    MoedgeError for what is not known. With a scheme of 4 bits, the embedding and the head have 8 unless a change says
    otherwise. A tied head is in the embedding.
    """
    plan, asked = _plan_of(name), parse_changes(changes)
    other = {
        group: scheme for group, scheme in asked.items() if scheme.name != plan.of(group).name or group in plan.raised
    }
    if not other:
        return plan
    named = (f"{spell(group)}={other[group].name}" for group in sorted(other))
    return replace(
        plan,
        name=", ".join([plan.name, *named]),
        by_group={**plan.by_group, **other},
        asked=frozenset(other),
        raised={group: scheme for group, scheme in plan.raised.items() if group not in other},
    )


def parse_changes(changes: Sequence[str]) -> dict[str, Scheme]:
    """The schemes of groups in `changes` like "attention=int8"; MoedgeError for what is not known or given twice."""
    asked: dict[str, Scheme] = {}
    for change in changes:
        group, scheme = _parse_change(change)
        if group in asked:
            raise MoedgeError(f"--group {spell(group)} is given twice: leave one out.")
        asked[group] = scheme
    return asked


def spell(group: str) -> str:
    """A group's name as `--group` takes it, without spaces."""
    return group.replace(" ", "-")


def _plan_of(name: str) -> SchemePlan:
    if name in PLANS:
        return PLANS[name]
    try:
        scheme = parse_scheme(name)
    except ValueError:
        near = difflib.get_close_matches(name, SCHEME_CHOICES, 1, 0.3)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise MoedgeError(f"no scheme is called {name!r}{hint}; there are {', '.join(SCHEME_CHOICES)}.") from None
    return SchemePlan(scheme.name, scheme, {EMBEDDING: TABLE, LM_HEAD: TABLE} if scheme.bits == 4 else {})


def _parse_change(change: str) -> tuple[str, Scheme]:
    group, equals, name = change.partition("=")
    if not equals:
        raise MoedgeError(f"--group {change} has no scheme: write it like --group attention=int8.")
    known = {spell(one): one for one in QUANTIZABLE}
    spelt = spell(group.strip())
    if spelt not in known:
        near = difflib.get_close_matches(spelt, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise MoedgeError(f"--group {change}: a scheme reaches no group {group!r}{hint}, but {', '.join(known)}.")
    return known[spelt], _scheme(name.strip())


def _scheme(name: str) -> Scheme:
    try:
        return parse_scheme(name)
    except ValueError as error:
        raise MoedgeError(f"{error}.") from None
