"""What a request or a command wishes of a template beside the conversation: how much to think, its variables' values.

It owns the words and the bounds. What a template knows of them is variables.py's matter.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from moedge.devices.errors import MoedgeError

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
MAX_VARIABLES = 32
MAX_BYTES = 16 << 10  # of all of them as JSON
MAX_DEPTH = 8


@dataclass(frozen=True)
class Wishes:
    """`effort` in the words of OpenAI and its like, `variables` by the template's own names, plain JSON values."""

    effort: Effort | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


def read_wishes(effort: Effort | None, variables: str | None) -> Wishes:
    """What the options --reasoning-effort and --chat-template-kwargs say; MoedgeError for a text that is not JSON."""
    try:
        given = json.loads("{}" if variables is None else variables)
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f'--chat-template-kwargs is not JSON ({error}): write it as {{"name": value}}.') from None
    if problem := bad_variables(given):
        raise MoedgeError(f"--chat-template-kwargs: {problem}.")
    return Wishes(effort, given)


def bad_variables(data: Any) -> str | None:
    """Why some JSON is not what variables may be: an object, of bounded size and depth; None if it is."""
    if not isinstance(data, dict):
        return "it must be an object of names and values"
    if len(data) > MAX_VARIABLES:
        return f"it has {len(data)} names, at most {MAX_VARIABLES} are accepted"
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
    if level:
        return f"it is nested more than {MAX_DEPTH} deep"
    try:
        size = len(json.dumps(data, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return "it holds NaN, infinity or half of a surrogate pair"
    return f"it has more than {MAX_BYTES} bytes of JSON" if size > MAX_BYTES else None
