"""The verb `serve`: options, the order of starting up, and what is printed when the endpoint is ready."""

import json
import threading
from typing import Annotated

import typer

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import make_guard
from moedge.edge_server.server import EdgeServer, bind, drain_on_signals, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.commands import BundleArgument


def serve(
    bundle: BundleArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MOEDGE_API_KEY", help="Key that clients must send; best set as MOEDGE_API_KEY.", show_envvar=True
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="Device profile, or auto for this machine.")] = "auto",
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Serve though no fast kernel fits this machine.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that clients call this machine; repeatable.")
    ] = None,
    max_running: Annotated[int, typer.Option(min=1, max=64, help="Requests that are answered in turns.")] = 2,
    max_queued: Annotated[int, typer.Option(min=0, max=1024, help="Requests that may wait; more get 429.")] = 16,
    drain_seconds: Annotated[float, typer.Option(min=0, help="How long answers may go on after SIGTERM.")] = 60,
) -> None:
    """Serve a bundle over HTTP, in the manner of OpenAI's API."""
    from moedge.runtime.engine import Engine  # onnxruntime: not for --help

    guard = make_guard(host, api_key, tuple(allow_host or ()))
    bound = bind(host, port)
    service = Service()
    server = EdgeServer(create_app(service, guard), bound, max_running + max_queued)
    drain_on_signals(server, service)
    failures: list[Exception] = []

    def load() -> None:
        try:
            engine = Engine.load(bundle, profile, allow_slow=allow_slow)
            service.open(engine, max_running, max_queued)
            typer.echo(
                greeting(
                    engine.manifest.name, _url(host, server.effective_port), guard.api_key, engine.has_chat_template
                )
            )
        except Exception as error:  # told by the main thread
            failures.append(error)
            server.pull_trigger()

    # while it loads, /livez answers and every other route says 503
    threading.Thread(target=load, name="moedge-load", daemon=True).start()
    serve_until_drained(server, service, drain_seconds, lambda: bool(failures))
    if failures:
        raise failures[0]


def greeting(model: str, url: str, api_key: str | None, chats: bool) -> str:
    """What to print once requests are answered: where, and a line to try it with."""
    path, body = "completions", {"prompt": "Once upon a time", "max_tokens": 64}
    if chats:
        path, body = "chat/completions", {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}
    key = ' -H "Authorization: Bearer $MOEDGE_API_KEY"' if api_key else ""
    curl = f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    return f"{model} answers at {url}/v1\nTry: {curl}"


def _url(host: str, port: str | int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
