"""The body of a request to plain data, strictly: what Flask's parser lets through or breaks on is a 400 here.

UTF-8 only, one object, no duplicate keys, no NaN or Infinity, numbers and nesting bounded, no half surrogates.
"""

import json
import math
import re
from typing import Any

from flask import Request

from moedge.edge_server.errors import ApiError

MAX_BODY = 4 << 20  # bytes
MAX_DEPTH = 80  # a tool's schema may be 64 deep and stands a few levels down
MAX_DIGITS = 20
MAX_CONTAINERS = 100_000  # lists and objects; a million of them keep all other threads waiting for seconds
_CONTAINERS = frozenset({dict, list})
# A text that does not end goes on to the end of all: to fail there would be to try again at each quote in it.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Without any of these in a body no text of it holds half of a surrogate pair, and no number is too large.
_SUSPECT = (re.compile(rb"\\u[dD]"), re.compile(rb"\d{20}"), re.compile(rb"\d[eE]"))


def read_json(request: Request) -> dict[str, Any]:
    """The object in the body; ApiError 415 for another content type or encoding, 400 for anything malformed."""
    if request.mimetype != "application/json":
        raise ApiError(
            415, "The body must be JSON: send Content-Type: application/json.", code="unsupported_media_type"
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(
            415, "Compressed bodies are not accepted: send the body as it is.", code="unsupported_media_type"
        )
    return parse_object(request.get_data(cache=False))


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that these bytes are; ApiError 400 that says what is wrong."""
    if not body.strip():
        raise _bad("it is empty")
    if _containers(body) > MAX_CONTAINERS and _containers(_TEXT.sub(b"", body)) > MAX_CONTAINERS:
        raise _bad(f"it has more than {MAX_CONTAINERS} lists and objects")
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    except RecursionError:
        raise _bad(f"it is nested more than {MAX_DEPTH} deep") from None
    except json.JSONDecodeError as error:
        raise _bad(str(error)) from None
    except _BadJson as error:
        raise _bad(str(error)) from None
    except ValueError:  # Python's own limit for a number, in thousands of digits
        raise _bad(f"a number has more than {MAX_DIGITS} digits") from None
    if not isinstance(data, dict):
        raise _bad("it is not an object")
    # a hook for each number, or a look at each value, would keep all other threads waiting for seconds
    _check(data, leaves=any(pattern.search(body) for pattern in _SUSPECT))
    return data


def _containers(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


class _BadJson(Exception):  # noqa: N818 - it is what was found
    """A reason, from inside of the parser."""


def _bad(reason: str) -> ApiError:
    return ApiError(400, f"The body is not acceptable JSON: {reason}.", code="invalid_json")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise _BadJson(f"the key {key[:64]!r} occurs twice in one object")
        data[key] = value
    return data


def _no_constant(name: str) -> None:
    raise _BadJson(f"{name} is not a number in JSON")


def _check(data: Any, leaves: bool) -> None:
    """Depth, and with `leaves` half surrogates and numbers that are too large; without recursion."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            if leaves:
                for each in inside:
                    _check_leaf(each)
            below += [each for each in inside if type(each) in _CONTAINERS]
        level = below
        if not level:
            return
    raise _bad(f"it is nested more than {MAX_DEPTH} deep")


def _check_leaf(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _bad("a text holds half of a surrogate pair") from None
    elif isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise _bad(f"a number has more than {MAX_DIGITS} digits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise _bad("a number is too large")
