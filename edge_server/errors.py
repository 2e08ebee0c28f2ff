"""Every failure as the JSON that OpenAI's clients understand: one exception, one mapping from all others, one shape."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from moedge.devices.errors import MoedgeError
from moedge.edge_server.observing.request_log import note_error
from moedge.runtime.admission import NotAccepting, QueueFull
from moedge.runtime.cache.reservation import NoRoom
from moedge.runtime.chat.template import ToolsNotShown
from moedge.runtime.chat.variables import UnknownVariable
from moedge.runtime.sampling import BrokenLogits

log = logging.getLogger(__name__)

INVALID = "invalid_request_error"
DRAIN_RETRY_S = 10


class ApiError(Exception):
    """An answer other than 200: HTTP status, sentence, OpenAI's type, the field at fault, a code for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        type: str = INVALID,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def unavailable(message: str, code: str) -> ApiError:
    """503: not now, perhaps soon."""
    return ApiError(503, message, "service_unavailable_error", code=code, headers={"Retry-After": str(DRAIN_RETRY_S)})


def api_error(error: Exception) -> ApiError:
    """What to answer to an exception; one that is this server's fault is logged."""
    match error:
        case BrokenLogits():
            log.error("a request failed: %s", error)
        case NoRoom() | MemoryError():
            log.error("a request failed: %s", str(error) or "out of memory")
        case ApiError() | MoedgeError() | HTTPException():
            pass
        case _:
            log.error("a request failed", exc_info=error)
    return _meaning(error)


def error_type(error: Exception) -> str:
    """The code by which programs, and the metrics, know this failure: one of few, whatever was sent."""
    api = _meaning(error)
    return api.code or (api.type if api.status == 400 else str(api.status))


def _meaning(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case QueueFull():
            retry = {"Retry-After": str(error.retry_after_s)}
            return ApiError(429, _sentence(error), "rate_limit_error", code="queue_full", headers=retry)
        case NotAccepting():
            return unavailable(_sentence(error), "shutting_down")
        case BrokenLogits():
            return ApiError(500, _sentence(error), "server_error", code="internal_error")
        case NoRoom() | MemoryError():  # this machine's fault; when other answers have ended there may be room
            return unavailable(_sentence(error) or "The server has no memory left for this request.", "out_of_memory")
        case ToolsNotShown():
            return ApiError(400, _sentence(error), param="tools", code="unsupported_parameter")
        case UnknownVariable():
            return ApiError(400, _sentence(error), param="chat_template_kwargs", code="unknown_parameter")
        case MoedgeError():
            return ApiError(400, _sentence(error))
        case HTTPException():
            return _of_http(error)
    return ApiError(500, "The server failed on this request; its log says why.", "server_error", code="internal_error")


def error_response(error: Exception) -> Response:
    """The answer to an exception."""
    note_error(error_type(error))
    api = api_error(error)
    return Response(json.dumps(api.body), api.status, api.headers, mimetype="application/json")


def _of_http(error: HTTPException) -> ApiError:
    status = error.code or 500
    texts = {
        404: "There is no such route: GET /openapi.json lists all of them.",
        405: "This route does not take this method.",
        413: "The body is larger than 4 MiB.",
    }
    # Allow of a 405 must survive; the rest of werkzeug's headers describe its HTML
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    kind = INVALID if status < 500 else "server_error"
    code = "internal_error" if status >= 500 else None
    return ApiError(status, texts.get(status, error.description or error.name), kind, code=code, headers=headers)


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
