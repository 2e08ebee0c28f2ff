"""From settings to an endpoint that answers: starting up, ending, and what is printed when it is ready."""

import json
import logging
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import typer

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import make_guard
from moedge.edge_server.server import EdgeServer, bind, drain_on_signals, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import OnHashed
from moedge.runtime.manifest import ChatFormat
from moedge.runtime.progress import bytes_progress

EXAMPLE_TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Turn a light on or off",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
        },
    },
}

TURNS = "Requests take turns, token by token: only bundles of the `native` plan run several at once."


@dataclass(frozen=True)
class Settings:
    """What `moedge serve` was told; the options say what they mean."""

    host: str
    port: int
    api_key: str | None = field(repr=False)
    allow_host: tuple[str, ...]
    device: str
    allow_slow: bool
    allow_low_memory: bool
    max_running: int
    max_queued: int
    drain_seconds: float
    stalled_after_s: float
    check_hashes: bool
    wishes: Wishes
    prompt_lookup_num_tokens: int


def run(bundle: Path, settings: Settings) -> None:
    """Serve until drained, then end the process.

    MoedgeError if the settings are not safe, the port is taken or the bundle does not load.
    """
    log_to_stderr()
    guard = make_guard(settings.host, settings.api_key, settings.allow_host)
    bound = bind(settings.host, settings.port)
    service = Service()
    server = EdgeServer(create_app(service, guard), bound, settings.max_running + settings.max_queued)
    drain_on_signals(server, service)
    failures: list[Exception] = []

    def load(on_hashed: OnHashed) -> None:
        try:
            engine = Engine.load(
                bundle,
                settings.device,
                sessions=settings.max_running,
                allow_slow=settings.allow_slow,
                allow_low_memory=settings.allow_low_memory,
                check_hashes=settings.check_hashes,
                on_hashed=on_hashed,
            )
            service.open(
                engine,
                settings.max_running,
                settings.max_queued,
                settings.stalled_after_s,
                settings.wishes,
                settings.prompt_lookup_num_tokens,
            )
            url = _url(settings.host, server.effective_port)
            chat_format = engine.manifest.model.chat_format if engine.has_chat_template else None
            typer.echo(greeting(engine.manifest.name, url, settings.api_key, chat_format, engine.shows_tools))
            if settings.max_running > 1 and not engine.program.batches:
                typer.echo(TURNS)
        except Exception as error:  # told by the main thread, which looks at its next tick
            failures.append(error)

    # while it loads, /livez answers and every other route says 503
    with bytes_progress("check") as on_hashed:  # ended by this thread, which also ends the process
        threading.Thread(target=load, args=(on_hashed,), name="moedge-load", daemon=True).start()
        serve_until_drained(server, service, settings.drain_seconds, lambda: bool(failures))
    if failures:
        raise failures[0]
    # a thread that is still inside onnxruntime, loading or in an operator, would abort an ordinary end of Python
    sys.stdout.flush()
    os._exit(0)


def log_to_stderr() -> None:
    """Show what the server says of its requests and of itself, a line each with its time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def greeting(
    model: str, url: str, api_key: str | None, chat_format: ChatFormat | None, shows_tools: bool = True
) -> str:
    """What to print once requests are answered: where, and a line to try that shows what the model can do.

    A chat format that can call tools, of a template that shows them, is shown calling one; None is a model that only
    completes text.
    """
    path, body = "completions", {"prompt": "Once upon a time", "max_tokens": 64}
    if chat_format is not None:
        tools = calls_tools(chat_format) and shows_tools
        question = "turn on the kitchen light" if tools else "Hello!"
        path, body = "chat/completions", {"messages": [{"role": "user", "content": question}], "max_tokens": 128}
        body |= {"tools": [EXAMPLE_TOOL]} if tools else {}
    key = ' -H "Authorization: Bearer $MOEDGE_API_KEY"' if api_key else ""
    curl = f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    return f"{model} answers at {url}/v1\nTry: {curl}"


def _url(host: str, port: str | int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
