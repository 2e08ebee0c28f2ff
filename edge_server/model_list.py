"""GET /v1/models: what a request may name, aliases too, and what of it is in memory."""

from flask import Response, request

from moedge.edge_server.anthropic.anthropic_errors import anthropic_response, speaks_anthropic
from moedge.edge_server.anthropic.anthropic_models import anthropic_model_list, describe_anthropic
from moedge.edge_server.models.served_models import ServedModel
from moedge.edge_server.replies import Json, json_response
from moedge.edge_server.service import Service


def list_models(service: Service) -> Response:
    """All of them, the default first, each followed by its aliases: clients let their users choose among these."""
    named = [(name, model) for model in service.models for name in model.names]
    if speaks_anthropic(request):
        return anthropic_model_list(named)
    entries = [describe_model(model, name) for name, model in named]
    return json_response({"object": "list", "data": entries})


def show_model(service: Service, model: str) -> Response:
    """The one of that name."""
    found = service.find(model)
    if speaks_anthropic(request):
        return anthropic_response(describe_anthropic(found, model))
    return json_response(describe_model(found, model))


def describe_model(model: ServedModel, name: str) -> Json:
    """A model under one of its names. `loaded` is "loading" while it comes into memory or leaves; `root` its own name.

    `max_model_len` is another server's word for `context_length`, in tokens.
    """
    context = model.manifest.model.context_length
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "moedge",
        "root": model.name,
        "context_length": context,
        "max_model_len": context,
        "loaded": "loading" if model.moving else model.loaded is not None,
    }
