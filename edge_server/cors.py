"""Pages of other origins: which may ask this server, and how a browser is told so. Off unless origins are named.

A browser asks first (a preflight, which carries no key) and shows a page what came back only where the answer allows
it. Credentials of the browser's own are never asked for: a page sends its key itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Request, Response
from werkzeug.exceptions import MethodNotAllowed, NotFound

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError

ANY = "*"
OPAQUE = "null"  # files, and frames that any page can make: nobody in particular
MAX_AGE_S = 600  # that a browser may remember a preflight
EXPOSED = "X-Request-Id, Request-Id, Retry-After"
# What clients of OpenAI and Anthropic send from a page; a browser asks for each by name.
HEADERS = frozenset(
    (
        *("accept", "authorization", "content-type", "x-api-key", "api-key", "x-request-id", "user-agent"),
        *("idempotency-key", "http-referer", "x-title", "traceparent", "tracestate"),
    )
)
PREFIXES = ("anthropic-", "openai-", "x-stainless-")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[^\s/?#@\\,*]+")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")


@dataclass(frozen=True)
class Cors:
    """The origins whose pages may ask; none: only the server's own page."""

    origins: frozenset[str] = frozenset()

    def preflight(self, request: Request) -> Response | None:
        """The answer to a browser that asks what a page may send; None for any other request.

        ApiError 403 for an origin that is not allowed, 404 and 405 as the request itself would get.
        """
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        origin = request.headers.get("Origin")
        if origin is None:
            return None
        if not self._allows(origin):
            message = "Pages of this origin are not let in: start the server with --cors-origin and the origin."
            raise ApiError(403, message, "permission_error", code="origin_not_allowed")
        methods = allowed_methods(request)
        wanted = request.headers["Access-Control-Request-Method"]
        if wanted not in methods:
            raise MethodNotAllowed(methods)
        response = no_content(methods)
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        if names := _known_headers(request.headers.get("Access-Control-Request-Headers", "")):
            response.headers["Access-Control-Allow-Headers"] = ", ".join(names)
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            response.headers["Access-Control-Allow-Private-Network"] = "true"
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return response

    def mark(self, request: Request, response: Response) -> Response:
        """Let a page of an allowed origin read this answer, an error too."""
        if not self.origins:
            return response
        origin = request.headers.get("Origin")
        response.vary.add("Origin")
        if origin is not None and self._allows(origin):
            response.headers["Access-Control-Allow-Origin"] = ANY if ANY in self.origins else origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    def _allows(self, origin: str) -> bool:
        return ANY in self.origins or origin in self.origins


NO_ORIGINS = Cors()


def read_origins(stated: Sequence[str], has_key: bool) -> Cors:
    """The rules for the origins of --cors-origin; MoedgeError for one that no browser sends.

    `*`, and `null` that any page can become, need a key: without one every page that its user opens could use the
    model, and read what it was asked.
    """
    origins = set[str]()
    for text in stated:
        origin = text.strip().lower()
        if origin in (ANY, OPAQUE):
            if not has_key:
                raise MoedgeError(
                    f"--cors-origin {origin} lets every page in and no API key is set: "
                    "set MOEDGE_API_KEY, or name the origins, such as http://localhost:5173."
                )
            origins.add(origin)
            continue
        found = _ORIGIN.fullmatch(origin)
        if found is None:
            raise MoedgeError(
                f"--cors-origin {text!r} is no origin: write scheme, host and port alone, "
                "such as http://localhost:5173 or https://chat.example."
            )
        origins.add(origin.removesuffix(_DEFAULT_PORTS.get(found[1], ":none")))  # browsers leave them out
    return Cors(frozenset(origins))


def no_content(methods: Sequence[str]) -> Response:
    """An answer without a body, which tells the methods of a route."""
    response = Response(status=204, headers={"Allow": ", ".join(methods)})
    del response.headers["Content-Type"]
    return response


def allowed_methods(request: Request) -> list[str]:
    """The methods of the route that an OPTIONS request names, itself among them; NotFound if there is none."""
    failure = request.routing_exception
    if not isinstance(failure, MethodNotAllowed):  # no route has this method of its own
        raise failure or NotFound()
    return sorted({*(failure.valid_methods or ()), "OPTIONS"})


def _known_headers(asked: str) -> list[str]:
    """Of the headers that a page would send, those that may be sent."""
    names = [name.strip().lower() for name in asked[:2048].split(",")]
    return [name for name in names if _TOKEN.fullmatch(name) and (name in HEADERS or name.startswith(PREFIXES))]
