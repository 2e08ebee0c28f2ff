"""Failures in the shape that Anthropic's clients understand, on the paths that are theirs.

What a failure means is errors.py's matter; here it gets Anthropic's words for it.
"""

from typing import Any

from flask import Request, Response
from werkzeug.exceptions import HTTPException

from moedge.edge_server.errors import ApiError, api_error, error_response, error_type
from moedge.edge_server.observing.request_log import current_id, note_error
from moedge.edge_server.replies import Json, json_response

PATH = "/v1/messages"  # and all below it
VERSION_HEADER = "anthropic-version"  # every client of Anthropic's sends it, and nobody else
ID_HEADER = "request-id"
OVERLOADED = 529  # a status of Anthropic's own
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    OVERLOADED: "overloaded_error",
}
NO_THREADS = "thread_unsupported_request"  # by which Anthropic's package knows that it must send all messages
ROUTES = "There is no such route: see POST /v1/messages, POST /v1/messages/count_tokens and GET /v1/models."


def speaks_anthropic(request: Request) -> bool:
    """Whether this request's client expects Anthropic's shapes: by the path, for those of both by the header."""
    return is_message_path(request.path) or (
        request.path.startswith("/v1/models") and VERSION_HEADER in request.headers
    )


def is_message_path(path: str) -> bool:
    """Whether a path is Anthropic's."""
    return path == PATH or path.startswith(f"{PATH}/")


def any_error_response(error: Exception, request: Request) -> Response:
    """The answer to an exception, in the shape of the request's client."""
    if not speaks_anthropic(request):
        return error_response(error)
    note_error(error_type(error))
    api = api_error(error)
    if isinstance(error, HTTPException) and api.status == 404:
        api = ApiError(404, ROUTES)
    response = anthropic_response(error_body(api, current_id()), anthropic_status(api))
    response.headers.update(api.headers)
    return response


def anthropic_response(body: Json, status: int = 200) -> Response:
    """A JSON answer with the request's id under Anthropic's name for it."""
    response = json_response(body, status)
    response.headers[ID_HEADER] = current_id()
    return response


def anthropic_status(api: ApiError) -> int:
    """The status of Anthropic's that says the same: clients wait and try again after either 503 or 529."""
    return OVERLOADED if api.code == "out_of_memory" else api.status


def error_body(api: ApiError, request_id: str | None = None) -> Json:
    """Anthropic's object of a failure. Agents shorten their conversation when they read "prompt is too long"."""
    status = anthropic_status(api)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = api.message
    if api.code == "context_length_exceeded":
        message = f"prompt is too long: {message[:1].lower()}{message[1:]}"
    error: dict[str, Any] = {"type": kind, "message": message}
    if api.code == NO_THREADS:
        error["details"] = {"error_code": api.code}
    return {"type": "error", "error": error, "request_id": request_id}
