"""Who is let in: the key, and the Host header that a web page cannot forge for this machine (DNS rebinding)."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field

from flask import Request

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError

OPEN_PATHS = frozenset({"/livez", "/readyz"})  # for probes, which hold no key and name no host, or one of their own
# This machine, as containers on it call it; nobody can own these names elsewhere.
OWN_NAMES = frozenset({"localhost", "host.docker.internal", "host.containers.internal"})


@dataclass(frozen=True)
class Guard:
    """The rules of one server. `loopback`: it listens on this machine alone."""

    api_key: str | None = field(default=None, repr=False)
    loopback: bool = True
    names: frozenset[str] = frozenset()  # Host names accepted besides localhost and addresses

    def check(self, request: Request) -> None:
        """ApiError 403 for a foreign Host header, 401 without the key."""
        if request.path in OPEN_PATHS:
            return
        if not self._knows(request.environ.get("HTTP_HOST", "")):
            message = "The Host header names another machine: use the server's address, or start it with --allow-host."
            raise ApiError(403, message, "permission_error", code="host_not_allowed")
        if self.api_key is not None and not self._has_key(request):
            headers = {"WWW-Authenticate": "Bearer"}
            message = "The API key is missing or wrong: send Authorization: Bearer KEY."
            raise ApiError(401, message, "authentication_error", code="invalid_api_key", headers=headers)

    def _has_key(self, request: Request) -> bool:
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        assert self.api_key is not None
        same = hmac.compare_digest(sent.strip().encode(), self.api_key.encode())
        return same and scheme.lower() == "bearer"

    def _knows(self, header: str) -> bool:
        host = header.strip().lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self.names | OWN_NAMES
        # a page can rebind its own name to this address, but not make the browser send an address as Host
        return address.is_loopback or not self.loopback


def make_guard(host: str, api_key: str | None, allow_host: tuple[str, ...] = ()) -> Guard:
    """The guard of a server on `host`; MoedgeError for an address other machines reach and no key, or a bad key."""
    loopback = is_loopback(host)
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and len(api_key.strip()) >= 8):
        raise MoedgeError(
            "the API key must be at least 8 printable ASCII characters: set MOEDGE_API_KEY to a longer one."
        )
    if not loopback and api_key is None:
        raise MoedgeError(
            f"{host} can be reached from other machines and no API key is set: "
            "set MOEDGE_API_KEY, or listen on 127.0.0.1."
        )
    names = {name.lower().rstrip(".") for name in allow_host}
    if not loopback:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local", host.lower()}
    return Guard(api_key, loopback, frozenset(names))


def is_loopback(host: str) -> bool:
    """Whether this address or name is this machine's own and nobody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
