"""Which scheme each group of a model's tensors gets: the frozen `SchemePlan`.

Groups are known here by name alone: which ones there are is the manifest's, what a plan is called is the exporter's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from moedge.quant.scheme import FP32, ScaleType, Scheme

Place = tuple[str, int | None]  # a group and a layer; None: before the first or after the last


@dataclass(frozen=True)
class SchemePlan:
    """A scheme for every group: `default`, but for the groups of `by_group`, and in some layers those of `raised`.

    Two plans of one name are equal but for `scales`, what all scales are kept in; None: each scheme's own. `asked` are
    the groups that a user named, who is to hear if one is not there. `by_place` goes before all others; it is what was
    measured under a name that says for which target.
    """

    name: str
    default: Scheme
    by_group: Mapping[str, Scheme] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    scales: ScaleType | None = None
    raised: Mapping[str, Scheme] = field(default_factory=dict)
    by_place: Mapping[Place, Scheme] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Whether any weights become codes."""
        return any(scheme.quantized for scheme in self._all())

    def whole(self) -> "SchemePlan":
        """The same without codes of 5 and 6 bits: 8 in their place, and no layer has more than others."""
        by_group = {group: scheme.widened for group, scheme in self.by_group.items()}
        by_place = {place: scheme.widened for place, scheme in self.by_place.items()}
        return replace(self, default=self.default.widened, by_group=by_group, raised={}, by_place=by_place)

    def of(self, group: str, layer: int | None = None) -> Scheme:
        """The scheme of a group's matrices, in that layer."""
        scheme = self.by_group.get(group, self.default)
        if layer is not None and is_raised(layer):
            scheme = self.raised.get(group, scheme)
        scheme = self.by_place.get((group, layer), scheme)
        return scheme.with_scales(self.scales or scheme.own_scales)

    def _all(self) -> tuple[Scheme, ...]:
        return (self.default, *self.by_group.values(), *self.by_place.values())


def is_raised(layer: int) -> bool:
    """Whether a layer is one of those that get more bits: the first two, and every third.

    A rule and no measurement: see docs/decisions.md.
    """
    return layer < 2 or layer % 3 == 2


EXACT = SchemePlan(FP32.name, FP32)
