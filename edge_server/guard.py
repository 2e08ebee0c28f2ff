"""Who is let in: the key, and the Host header that a web page cannot forge for this machine (DNS rebinding)."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Request, g, has_app_context

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError
from moedge.edge_server.keys import NO_KEYS, Keys

OPEN_PATHS = frozenset({"/livez", "/readyz"})  # for probes, which hold no key and name no host, or one of their own
# This machine, as containers on it call it; nobody can own these names elsewhere.
OWN_NAMES = frozenset({"localhost", "host.docker.internal", "host.containers.internal"})
# All of it: what stands behind the port of one header may be another header, as two of a name are joined.
_HOST = re.compile(r"(?:\[(?P<address>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::[0-9]*)?")


@dataclass(frozen=True)
class Guard:
    """The rules of one server. `loopback`: it listens on this machine alone."""

    keys: Keys = NO_KEYS
    loopback: bool = True
    names: frozenset[str] = frozenset()  # Host names accepted besides localhost and addresses

    def check_host(self, request: Request) -> None:
        """ApiError 403 for a foreign Host header."""
        if request.path in OPEN_PATHS or self._knows(request.environ.get("HTTP_HOST", "")):
            return
        message = "The Host header names another machine: use the server's address, or start it with --allow-host."
        raise ApiError(403, message, "permission_error", code="host_not_allowed")

    def owner_of(self, request: Request) -> str:
        """Whose request this is: a digest of the key, "" where none is asked for; ApiError 401 without one."""
        if request.path in OPEN_PATHS or not self.keys:
            return ""
        owner = self.keys.owner_of(request.headers)
        if owner is None:
            scheme = 'Basic realm="moedge", charset="UTF-8"' if _in_a_window(request) else "Bearer"
            message = "The API key is missing or wrong: send Authorization: Bearer KEY."
            headers = {"WWW-Authenticate": scheme}
            raise ApiError(401, message, "authentication_error", code="invalid_api_key", headers=headers)
        return owner

    def _knows(self, header: str) -> bool:
        found = _HOST.fullmatch(header.strip().lower())
        if found is None:
            return False
        name = found["address"] or found["name"] or ""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self.names | OWN_NAMES
        # a page can rebind its own name to this address, but not make the browser send an address as Host
        return address.is_loopback or not self.loopback


def note_owner(owner: str) -> None:
    """The current request is this owner's."""
    g.owner = owner


def current_owner() -> str:
    """Whose the current request is, as it was noted; "" where no key is asked for, or outside of a request."""
    return str(g.get("owner", "")) if has_app_context() else ""


def _in_a_window(request: Request) -> bool:
    """Whether a browser shows the answer itself, and so can ask its user for the key; a page's scripts must not."""
    accepted = request.headers.get("Accept", "")
    return request.method in ("GET", "HEAD") and (request.path == "/" or "text/html" in accepted)


def make_guard(host: str, keys: Sequence[str] = (), allow_host: Sequence[str] = ()) -> Guard:
    """The guard of a server on `host`; MoedgeError for an address other machines reach and no key, or a bad key."""
    loopback = is_loopback(host)
    if not loopback and not keys:
        raise MoedgeError(
            f"{host} can be reached from other machines and no API key is set: "
            "set MOEDGE_API_KEY, or listen on 127.0.0.1."
        )
    names = {name.lower().rstrip(".") for name in allow_host}
    if not loopback:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local", host.lower()}
    return Guard(Keys.of(keys), loopback, frozenset(names))


def is_loopback(host: str) -> bool:
    """Whether this address or name is this machine's own and nobody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
