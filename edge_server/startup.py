"""From settings to an endpoint that answers: starting up, ending, and what is printed when it is ready."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import typer

from moedge.edge_server.app import create_app
from moedge.edge_server.cors import read_origins
from moedge.edge_server.guard import make_guard
from moedge.edge_server.keys import read_key_file, split_keys
from moedge.edge_server.models.loading import load_model
from moedge.edge_server.models.model_room import ModelRoom
from moedge.edge_server.models.model_settings import ModelChoice
from moedge.edge_server.models.residents import Residents
from moedge.edge_server.models.served_models import ServedModel, open_models
from moedge.edge_server.observing.log_format import LogFormat, log_to_stderr
from moedge.edge_server.server import EdgeServer, bind, drain_on_signals, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.integrity import OnHashed
from moedge.runtime.manifest import TEMPLATE_NAME, ChatFormat
from moedge.runtime.progress import bytes_progress

Preload = Literal["first", "all", "none"]

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
    """What `moedge serve` was told of the server; the options say what they mean, ModelSettings has those of models."""

    host: str
    port: int
    api_keys: tuple[str, ...] = field(repr=False)
    api_key_file: Path | None
    allow_host: tuple[str, ...]
    cors_origins: tuple[str, ...]
    preload: Preload
    load_wait_s: float
    unload_after_s: float
    drain_seconds: float
    log_format: LogFormat


def run(choices: Sequence[ModelChoice], aliases: Sequence[str], settings: Settings) -> None:
    """Serve until drained, then end the process.

    MoedgeError if the settings are not safe, the port is taken, a bundle is damaged or one of those to be loaded at
    once does not load.
    """
    log_to_stderr(settings.log_format)
    keys = _keys(settings)
    guard = make_guard(settings.host, keys, settings.allow_host)
    cors = read_origins(settings.cors_origins, bool(keys))
    models = open_models(choices, aliases)
    first, room = _preloaded(models, settings.preload), ModelRoom()
    room.settle(models)
    for model in models:
        room.check_alone(model)
    room.check_together(first)
    bound = bind(settings.host, settings.port)
    service = Service()
    places = sum(model.settings.places for model in models)
    server = EdgeServer(create_app(service, guard, cors), bound, places, guard.keys)
    drain_on_signals(server, service)
    failures: list[Exception] = []

    def load(on_hashed: OnHashed) -> None:
        try:
            residents = Residents(models, load_model, room, settings.load_wait_s, settings.unload_after_s)
            for model in first:
                residents.preload(model, on_hashed)
            service.open_residents(residents)
            url = _url(settings.host, server.effective_port)
            typer.echo("\n".join(_welcome(models, url, bool(keys))))
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


def _keys(settings: Settings) -> list[str]:
    keys = [key for text in settings.api_keys for key in split_keys(text)]
    if settings.api_key_file is not None:
        keys += read_key_file(settings.api_key_file)
    if not keys and "MOEDGE_API_KEY" in os.environ:  # blank, which is not to wish for none
        split_keys("")
    return keys


def _preloaded(models: Sequence[ServedModel], preload: Preload) -> Sequence[ServedModel]:
    return {"none": (), "first": models[:1], "all": models}[preload]


def _welcome(models: Sequence[ServedModel], url: str, has_key: bool) -> Iterator[str]:
    """What is printed once requests are answered: how to ask the default model, and which others there are."""
    default = models[0]
    facts, loaded = default.manifest.model, default.loaded
    chats = TEMPLATE_NAME in default.manifest.files
    shows_tools = loaded is None or loaded.engine.shows_tools
    yield greeting(default.name, url, has_key, facts.chat_format if chats else None, shows_tools)
    if len(models) > 1:
        others = ", ".join(model.name if model.loaded else f"{model.name} (once asked for)" for model in models[1:])
        yield f"Also: {others}"
    turns = [each.name for each in models if each.settings.max_running > 1 and each.manifest.experts.plan != "native"]
    if turns:
        yield TURNS if len(models) == 1 else f"{', '.join(turns)}: {TURNS}"


def greeting(model: str, url: str, has_key: bool, chat_format: ChatFormat | None, shows_tools: bool = True) -> str:
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
    key = ' -H "Authorization: Bearer $MOEDGE_API_KEY"' if has_key else ""
    curl = f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    page = "" if chat_format is None else f"Chat: {url}/\n"
    return f"{model} answers at {url}/v1\n{page}Try: {curl}"


def _url(host: str, port: str | int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
