"""The models that are served, as Anthropic's clients list them: a page at a time, between two ids."""

from collections.abc import Sequence
from datetime import UTC, datetime

from flask import Response, request

from moedge.edge_server.anthropic.anthropic_errors import anthropic_response
from moedge.edge_server.fields import bad_field
from moedge.edge_server.models.served_models import LONGEST_NAME, ServedModel
from moedge.edge_server.query import query_count, read_query
from moedge.edge_server.replies import Json

MOST, USUAL = 1000, 20  # models of one page
CURSORS = ("after_id", "before_id")


def anthropic_model_list(models: Sequence[tuple[str, ServedModel]]) -> Response:
    """Models under all their names, as far as the query asks for them; ApiError 400 names what it cannot ask."""
    query = read_query(request, ("limit", *CURSORS), ("beta", "lifecycle", "lifecycle[]"))  # there is one lifecycle
    limit = query_count(query, "limit", USUAL, MOST)
    after, before = (query.get(name) for name in CURSORS)
    if after is not None and before is not None:
        raise bad_field("before_id", "after_id says something else; send one of them")
    names = [name for name, _ in models]
    for name, cursor in zip(CURSORS, (after, before), strict=True):
        if cursor is not None and cursor not in names:
            raise bad_field(name, f"there is no model {cursor[:LONGEST_NAME]!r}")
    first = names.index(after) + 1 if after is not None else 0
    last = names.index(before) if before is not None else len(names)
    if before is not None:
        first = max(0, last - limit)
    page = [describe_anthropic(model, name) for name, model in models[first:last][:limit]]
    more = first > 0 if before is not None else first + limit < last
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return anthropic_response({"data": page, "has_more": more, **ends})


def describe_anthropic(model: ServedModel, name: str) -> Json:
    """A model under one of its names; an answer has at most as many tokens as the context."""
    context = model.manifest.model.context_length
    return {
        "type": "model",
        "id": name,
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": context,
        "max_tokens": context,
        "capabilities": None,
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
    }
