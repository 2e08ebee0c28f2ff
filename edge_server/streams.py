"""What streamed and whole answers of every endpoint share with the server: who still reads, and who cleans up."""

from collections.abc import Callable, Iterator

from flask import Request, Response

from moedge.runtime.ticket import Ticket


def client_left(request: Request) -> Callable[[], bool]:
    """Ask whether the other side has hung up; never, under a server that cannot tell."""
    asked: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return asked


def stream_response(chunks: Iterator[bytes], ticket: Ticket) -> Response:
    """Server-sent events; however the stream ends, and if it never begins, the ticket gives up its place."""
    response = Response(chunks, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not collect them
    response.call_on_close(ticket.cancel)
    return response
