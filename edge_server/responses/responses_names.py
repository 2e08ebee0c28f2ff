"""What the fields of a chat are called in a response, so that errors of what both share name what was sent."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from moedge.edge_server.errors import ApiError
from moedge.edge_server.replies import Json

# Fields that a chat has and a response calls otherwise.
ELSEWHERE = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
    "functions": "tools",
    "function_call": "tool_choice",
}
_SPELLED_OUT = re.compile(
    r"(?<![\w.'\"])(response_format|max_completion_tokens|max_tokens|reasoning_effort)(?![\w'\"])"
)


@contextmanager
def response_names(tools: Sequence[Json] = ()) -> Iterator[None]:
    """While the request that a response stands for is read and asked as a chat: its errors in a response's names.

    `tools` are those of the request.
    """
    try:
        yield
    except ApiError as error:
        told, param = error.message, error.param
        if param is not None:
            param = response_name(param, tools)
            told = told.replace(f"{error.param}:", f"{param}:", 1)
        told = _SPELLED_OUT.sub(lambda found: ELSEWHERE[found[0]], told)
        raise ApiError(error.status, told, error.type, param=param, code=error.code, headers=error.headers) from error


def response_name(param: str, tools: Sequence[Json] = ()) -> str:
    """Where a response with these tools has what a chat has at this place."""
    field, _, place = param.partition(".")
    name, bracket, index = field.partition("[")
    if name == "messages":
        return "input"  # which are not one by one its items
    if name == "tools":
        number = index.partition("]")[0]
        if number.isdecimal() and int(number) < len(tools) and tools[int(number)]["type"] == "custom":
            place = place.replace("parameters", "format", 1)
        return f"{name}{bracket}{index}.{place.removeprefix('function').removeprefix('.')}".rstrip(".")
    if name == "tool_choice":
        return param.replace(".allowed_tools", "", 1).replace(".function", "", 1)
    if name == "response_format":
        inner = place.removeprefix("json_schema").removeprefix(".")
        return f"text.format.{inner}".rstrip(".")
    return ELSEWHERE.get(param, param)
