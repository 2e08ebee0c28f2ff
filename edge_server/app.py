"""The Flask application: which path is which function, the guard before all of them, JSON for every failure."""

from collections.abc import Callable
from functools import partial

from flask import Flask, Response, request

from moedge.devices.memory import return_freed_memory
from moedge.edge_server.anthropic.anthropic_errors import any_error_response
from moedge.edge_server.anthropic.anthropic_messages import count_message_tokens, create_message
from moedge.edge_server.chat import create_chat_completion
from moedge.edge_server.completions import create_completion
from moedge.edge_server.cors import NO_ORIGINS, Cors, allowed_methods, no_content
from moedge.edge_server.embeddings import create_embedding
from moedge.edge_server.errors import unavailable
from moedge.edge_server.guard import OPEN_PATHS, Guard, note_owner
from moedge.edge_server.json_body import MAX_BODY
from moedge.edge_server.live_experts import read_experts
from moedge.edge_server.model_list import list_models, show_model
from moedge.edge_server.observing.metrics import Metrics, show_metrics
from moedge.edge_server.observing.request_log import LEFT_STATUS, begin_record, end_record
from moedge.edge_server.openapi.document import show_description
from moedge.edge_server.props import show_health, show_props
from moedge.edge_server.replies import ClientLeft, json_response
from moedge.edge_server.responses.responses import response_routes
from moedge.edge_server.service import Service
from moedge.edge_server.tokenizing import apply_template, detokenize, tokenize
from moedge.edge_server.web_page import show_page

BIG_BODY = 256 << 10  # bytes; what it was turned into on the way takes a multiple


def create_app(service: Service, guard: Guard, cors: Cors = NO_ORIGINS) -> Flask:
    """The routes over one service; tests call it with a fake engine."""
    metrics = Metrics(service)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # guard and preflights come first
    app.url_map.merge_slashes = False  # likewise its redirect

    def route(method: str, path: str, view: Callable[..., Response]) -> None:
        app.add_url_rule(path, endpoint=f"{method} {path}", view_func=partial(view, service), methods=[method])

    route("GET", "/", show_page)
    route("GET", "/livez", _livez)
    route("GET", "/readyz", _readyz)
    route("GET", "/health", show_health)
    route("GET", "/props", show_props)
    route("GET", "/experts", partial(read_experts, several_keys=len(guard.keys.owners) > 1))
    route("GET", "/openapi.json", lambda _: show_description(bool(guard.keys)))
    route("GET", "/metrics", lambda _: show_metrics(metrics, request))
    route("GET", "/v1/models", list_models)
    route("GET", "/v1/models/<path:model>", show_model)
    route("POST", "/v1/chat/completions", create_chat_completion)
    route("POST", "/v1/completions", create_completion)
    route("POST", "/v1/embeddings", create_embedding)
    route("POST", "/tokenize", tokenize)
    route("POST", "/detokenize", detokenize)
    route("POST", "/apply-template", apply_template)
    route("POST", "/v1/messages", create_message)
    route("POST", "/v1/messages/count_tokens", count_message_tokens)
    for method, path, view in response_routes():
        route(method, path, view)

    # the page and Prometheus ask often
    app.before_request(lambda: metrics.begin(begin_record(request, OPEN_PATHS | {"/experts", "/metrics"})))
    app.before_request(partial(_let_in, guard, cors))
    app.after_request(_harden)
    app.after_request(_forget)
    app.after_request(lambda response: cors.mark(request, response))
    app.after_request(lambda response: end_record(response, metrics.end))
    app.register_error_handler(Exception, lambda error: any_error_response(error, request))
    app.register_error_handler(ClientLeft, lambda _: Response(status=LEFT_STATUS))  # nobody reads it
    return app


def _let_in(guard: Guard, cors: Cors) -> Response | None:
    """Whom to answer; OPTIONS is answered here, as no route has it of its own."""
    guard.check_host(request)
    if (answer := cors.preflight(request)) is not None:
        return answer
    note_owner(guard.owner_of(request))
    if request.method != "OPTIONS":
        return None
    return no_content(allowed_methods(request))


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
