"""Every route as OpenAPI's operations: what it takes, what it answers, and each status that it may fail with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from moedge.edge_server.openapi.json_schemas import JsonSchema, reference, text

JSON = "application/json"
EVENTS = "text/event-stream"
READ = (401, 403, 500, 503)  # of whatever asks
SEARCH = (400, *READ)
MODEL = (404, *SEARCH)
WRITE = (400, 401, 403, 404, 408, 413, 415, 500, 503)  # of whatever sends a body
ASK = (*WRITE, 429)  # of what a model works on
MEANINGS = {
    400: "Something of the request does not fit: `param` names it.",
    401: "The API key is missing or wrong.",
    403: "The Host header names another machine.",
    404: "There is no such route, model or object.",
    408: "The request did not come in time.",
    413: "The body is larger than 4 MiB.",
    415: "The body is no JSON, or compressed.",
    429: "The queue is full; Retry-After says when to try again.",
    500: "The server failed on this request; its log says why.",
    503: "The model is being loaded, has no memory left, or the server is shutting down; Retry-After says when.",
    529: "The server has no memory left for this request.",
}


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answers` are the bodies of a 200, by content type; `body` that of the request."""

    summary: str
    tag: str
    answers: Mapping[str, JsonSchema]
    failures: Iterable[int] = READ
    body: JsonSchema | None = None
    query: Mapping[str, JsonSchema] = field(default_factory=dict)
    open: bool = False  # to whoever has no key
    shape: str = "Error"  # of its failures
    headers: tuple[str, ...] = ()  # of the request, that change the answer
    more: Mapping[int, str] = field(default_factory=dict)  # other statuses without a body

    def described(self, identifier: str, path_parameters: Iterable[str]) -> JsonSchema:
        """As OpenAPI has it."""
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": text(minLength=1)} for name in path_parameters
        ]
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in self.query.items()]
        parameters += [{"name": name, "in": "header", "schema": text()} for name in self.headers]
        content = {kind: {"schema": schema} for kind, schema in self.answers.items()}
        responses: JsonSchema = {"200": {"description": "It worked.", "content": content}}
        for status, meaning in self.more.items():
            responses[str(status)] = {"description": meaning}
        for status in sorted({*self.failures}):
            schema = {"schema": reference(self.shape)}
            responses[str(status)] = {
                "description": MEANINGS.get(status) or HTTPStatus(status).phrase,
                "content": {JSON: schema},
            }
        described: JsonSchema = {
            "operationId": identifier,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": responses,
        }
        if parameters:
            described["parameters"] = parameters
        if self.body is not None:
            described["requestBody"] = {"required": True, "content": {JSON: {"schema": self.body}}}
        if self.open:
            described["security"] = []
        return described
