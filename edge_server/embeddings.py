"""POST /v1/embeddings: what is served writes text and embeds none, which clients are told as they understand it."""

from flask import Response, request

from moedge.edge_server.errors import ApiError
from moedge.edge_server.json_body import read_json
from moedge.edge_server.service import Service


def create_embedding(service: Service) -> Response:
    """ApiError 400, or 404 for a model that is not there."""
    loaded = service.ready_for(read_json(request))
    message = f"The model {loaded.name!r} writes text and gives no embeddings: ask a server of an embedding model."
    raise ApiError(400, message, param="model", code="unsupported_model")
