"""The body of a request to plain data, strictly: what Flask's parser lets through or breaks on is a 400 here.

UTF-8 only, one object, no duplicate keys, no NaN or Infinity, numbers and nesting bounded, no half surrogates.
"""

import json
import math
from typing import Any

from flask import Request

from moedge.edge_server.errors import ApiError

MAX_BODY = 4 << 20  # bytes
MAX_DEPTH = 80  # a tool's schema may be 64 deep and stands a few levels down
MAX_DIGITS = 20


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
    try:
        data = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    except RecursionError:
        raise _bad(f"it is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise _bad(str(error)) from None
    if not isinstance(data, dict):
        raise _bad("it is not an object")
    _check(data)
    return data


def _bad(reason: str) -> ApiError:
    return ApiError(400, f"The body is not acceptable JSON: {reason}.", code="invalid_json")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {key[:64]!r} occurs twice in one object")
        data[key] = value
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:32]} is too large")
    return value


def _check(data: Any) -> None:
    """Depth and surrogates, without recursion."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
        level = below
        if not level:
            return
    raise _bad(f"it is nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad("a text holds half of a surrogate pair") from None
