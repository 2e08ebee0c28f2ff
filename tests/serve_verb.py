"""`moedge serve` in this process, up to the models that it loads at the start."""

import time

from moedge.edge_server import startup
from moedge.runtime.cli import main


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def serve_fixture(monkeypatch):
    """A fixture: run the verb until the models are loaded or have failed to; exit code, and the service if it came up.

    Without a service nothing listened.
    """
    services = []

    def look(server, service, drain_seconds, failed):
        wait_for(lambda: failed() or service._residents is not None)
        services.append(service)
        server.shut()

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(startup, "drain_on_signals", lambda *_: None)
    monkeypatch.setattr(startup, "serve_until_drained", look)
    monkeypatch.setattr(startup.os, "_exit", end)

    def serve(*words):
        before = len(services)
        code = main(["serve", *map(str, words), "--port", "0"])
        return code, services[-1] if len(services) > before else None

    yield serve
    for service in services:
        service.close()
