"""Lists in Lark: items in order, some of which may be missing, and calls one after the other."""

from collections.abc import Sequence

from moedge.runtime.forms.lark_rules import LarkRules, quote


def ordered(rules: LarkRules, items: Sequence[tuple[str, bool]], separator: str) -> str:
    """Items in this order, the text `separator` between two; each comes with whether it must be there."""
    alone, behind = "", ""  # what is left of the list, where nothing or something was written before
    for item, required in reversed(items):
        first, next_ = f"{item} {behind}", f"{quote(separator)} {item} {behind}"
        if required:
            alone, behind = rules.rule(first), rules.rule(next_)
        else:
            alone = rules.rule(f"{first} | {alone}" if alone else f"({first})?")
            behind = rules.rule(f"{next_} | {behind}" if behind else f"({next_})?")
    return alone


def repeated(item: str, separator: str, most: int | None, least: int = 1) -> str:
    """So many of an item, the Lark of `separator` between two; None: any number."""
    if most == 0:
        return ""
    more = "*" if most is None and least <= 1 else f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
    several = item if most == 1 else f"{item} ({separator} {item}){more}"
    return several if least else f"({several})?"
