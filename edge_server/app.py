"""The Flask application: which path is which function, the guard before all of them, JSON for every failure."""

from collections.abc import Callable
from functools import partial

from flask import Flask, Response, request

from moedge.devices.memory import return_freed_memory
from moedge.edge_server.chat import create_chat_completion
from moedge.edge_server.completions import create_completion
from moedge.edge_server.errors import error_response, unavailable
from moedge.edge_server.guard import OPEN_PATHS, Guard
from moedge.edge_server.json_body import MAX_BODY
from moedge.edge_server.replies import ClientLeft, Json, json_response
from moedge.edge_server.request_log import begin_record, end_record
from moedge.edge_server.service import Service

BIG_BODY = 256 << 10  # bytes; what it was turned into on the way takes a multiple


def create_app(service: Service, guard: Guard) -> Flask:
    """The routes over one service; tests call it with a fake engine."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # its answer is no JSON; browsers of other origins get a 405
    app.url_map.merge_slashes = False  # likewise its redirect

    def route(method: str, path: str, view: Callable[..., Response]) -> None:
        app.add_url_rule(path, endpoint=path, view_func=partial(view, service), methods=[method])

    route("GET", "/livez", _livez)
    route("GET", "/readyz", _readyz)
    route("GET", "/v1/models", _models)
    route("GET", "/v1/models/<path:model>", _model)
    route("POST", "/v1/chat/completions", create_chat_completion)
    route("POST", "/v1/completions", create_completion)

    app.before_request(lambda: begin_record(request, OPEN_PATHS))
    app.before_request(lambda: guard.check(request))
    app.after_request(_harden)
    app.after_request(_forget)
    app.after_request(end_record)
    app.register_error_handler(Exception, error_response)
    app.register_error_handler(ClientLeft, lambda _: Response(status=499))  # nobody reads it
    return app


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _forget(response: Response) -> Response:
    """After a big request, let memory fall back to where it was; the C library would keep it for a next one."""
    if (request.content_length or 0) > BIG_BODY:
        response.call_on_close(return_freed_memory)
    return response


def _livez(service: Service) -> Response:
    if not service.alive:
        raise unavailable("The engine thread is dead or hangs.", "engine_failed")
    return json_response({"status": "ok"})


def _readyz(service: Service) -> Response:
    service.ready()
    return json_response({"status": "ready"})


def _models(service: Service) -> Response:
    return json_response({"object": "list", "data": [_describe(service)]})


def _model(service: Service, model: str) -> Response:
    service.loaded.check_model(model)
    return json_response(_describe(service))


def _describe(service: Service) -> Json:
    loaded = service.loaded
    manifest = loaded.engine.manifest
    return {
        "id": manifest.name,
        "object": "model",
        "created": loaded.since,
        "owned_by": "moedge",
        "context_length": manifest.model.context_length,
    }
