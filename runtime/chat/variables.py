"""What a template reads beside the conversation, and how a wish of how much to think is put to it.

Its names are found in its source; which levels of effort it knows by rendering them. Knows no request and no command.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any

from jinja2 import meta, nodes

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.wishes import EFFORTS, Effort

# Switches of published templates: a value for no thinking, and one for thinking.
_SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "thinking_mode": ("disabled", "enabled"),
    "reasoning": (False, True),  # North
}
_LEVELS = ("reasoning_effort", "thinking_effort", "reasoning_strength")
# What says the same or nearly so, the best first. "no_think" is Hunyuan's word.
_PREFERRED: Mapping[Effort, tuple[str, ...]] = {
    "none": ("none", "no_think", "minimal", "low"),
    "minimal": ("minimal", "low"),
    "low": ("low", "minimal"),
    "medium": ("medium",),
    "high": ("high",),
    "xhigh": ("xhigh", "max", "high"),
    "max": ("max", "xhigh", "high"),
}
_PRINTED = ("low", "medium", "high")  # what gpt-oss was trained with; its template prints any word
_NO_LEVEL = "moedge_effort"


class UnknownVariable(MoedgeError):  # noqa: N818 - it names what was sent
    """A value for a variable that the template does not read: it would change nothing."""


def names_read(tree: nodes.Template) -> set[str]:
    """The variables that a template takes from outside.

    What it assigns itself counts only where it asks whether it was given (`is defined`, `default`) or builds on it.
    """
    assigned = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    asked = {
        node.node.name
        for node in [*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter)]
        if node.name in ("defined", "undefined", "default", "d") and isinstance(node.node, nodes.Name)
    }
    built_on = {
        assign.target.name
        for assign in tree.find_all(nodes.Assign)
        if isinstance(assign.target, nodes.Name)
        and any(name.name == assign.target.name and name.ctx == "load" for name in assign.find_all(nodes.Name))
    }
    return {name for name in meta.find_undeclared_variables(tree) if name not in assigned or name in asked | built_on}


def thinking_on(names: Set[str]) -> dict[str, Any]:
    """The template's switches for thinking, on."""
    return {name: on for name, (_, on) in _SWITCHES.items() if name in names}


def effort_variables(effort: Effort, names: Set[str], render: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    """The variables, of those that the template reads, that say this effort; none if it has no word for it.

    A template with a switch turns thinking off by it; without one, "none" is the least effort that it knows.
    """
    switch = {name: pair[effort != "none"] for name, pair in _SWITCHES.items() if name in names}
    level = next((name for name in _LEVELS if name in names), None)
    if level is None or (effort == "none" and switch):
        return switch
    return {**switch, level: _spell(effort, lambda word: _try(render, {**switch, level: word}))}


def _spell(effort: Effort, shown: Callable[[str], str]) -> str:
    """The template's word for an effort. `shown` is the prompt with a word, "" if the template refuses it."""
    unknown = shown(_NO_LEVEL)
    words = _PRINTED if _NO_LEVEL in unknown else ("no_think", *EFFORTS)
    accepted = {word: text for word in words if (text := shown(word))}
    known = words if _NO_LEVEL in unknown else [word for word, text in accepted.items() if text != unknown]
    for word in _PREFERRED[effort]:
        if word in known:
            return word
    place = EFFORTS.index(effort)
    # the nearest that it takes, of two the higher one
    taken = [word for word in EFFORTS if word in accepted]
    return min(taken, key=lambda word: abs(EFFORTS.index(word) - place - 0.1), default=effort)


def _try(render: Callable[[Mapping[str, Any]], str], variables: Mapping[str, Any]) -> str:
    try:
        return render(variables)
    except MoedgeError:
        return ""
