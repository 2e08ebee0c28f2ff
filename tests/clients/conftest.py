"""The server that the clients of this folder talk to: `moedge serve` with the embedded model, in a process of its own.

The clients run in an environment without moedge; MOEDGE names the server's command and BUNDLE the model's folder.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

MODEL = "edge-assistant"


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The base URL of a running server."""
    with serving() as address:
        yield address


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[str]:
    """A server with these options and variables while it runs; its base URL."""
    command = [os.environ["MOEDGE"], "serve", os.environ["BUNDLE"], "--port", "0", *options]
    variables = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as child:
        assert child.stdout is not None
        greeting = child.stdout.readline()
        try:
            assert " answers at " in greeting, greeting
            yield greeting.rpartition(" ")[2].strip()
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


@pytest.fixture
def rooms() -> list[tuple[str, bool]]:
    """What a client's tool was called with."""
    return []
