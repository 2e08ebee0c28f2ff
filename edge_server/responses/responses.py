"""The routes under /v1/responses: answers in OpenAI's newer form, kept for a later turn unless the client says no."""

from collections.abc import Callable
from functools import partial

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.answering import ask, encode_question, follow
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import bad_field, one_word
from moedge.edge_server.guard import current_owner
from moedge.edge_server.json_body import read_json
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.query import query_count, read_query
from moedge.edge_server.questions import ChatQuestion
from moedge.edge_server.replies import Json
from moedge.edge_server.responses.responses_body import ResponseHead, ResponseTeller
from moedge.edge_server.responses.responses_context import shortened
from moedge.edge_server.responses.responses_names import response_names
from moedge.edge_server.responses.responses_output import ResponseOutput
from moedge.edge_server.responses.responses_request import ResponseRequest, read_include, read_response
from moedge.edge_server.responses.responses_store import KeptResponse, ResponseStore
from moedge.edge_server.service import Service

MOST_LISTED, USUAL_LISTED = 100, 20  # items of one page
ORDERS = ("asc", "desc")
INCLUDES = ("include", "include[]")


def response_routes() -> list[tuple[str, str, Callable[..., Response]]]:
    """Method, path and view of each; the views share one store."""
    kept = ResponseStore()
    views = (
        ("POST", "/v1/responses", create_response),
        ("POST", "/v1/responses/input_tokens", count_input_tokens),
        ("POST", "/v1/responses/compact", compact_response),
        ("GET", "/v1/responses/<response_id>", retrieve_response),
        ("DELETE", "/v1/responses/<response_id>", delete_response),
        ("POST", "/v1/responses/<response_id>/cancel", cancel_response),
        ("GET", "/v1/responses/<response_id>/input_items", list_input_items),
    )
    return [(method, path, partial(view, kept)) for method, path, view in views]


def create_response(kept: ResponseStore, service: Service) -> Response:
    """Answer one request, whole or as a stream of events."""
    body = read_json(request)
    loaded = service.ready_for(body)
    owner = current_owner()
    asked = read_response(body, loaded.defaults, loaded.limits(), kept.of(owner))
    with response_names(asked.echo["tools"]):
        (answer,) = ask(loaded, _fitting(loaded, asked), "input")

    def keep(response: Json) -> None:
        if asked.store:
            kept.keep(owner, response, asked.items)

    head = ResponseHead(loaded.name, asked.echo)
    teller = ResponseTeller(head, answer, ResponseOutput(asked.custom), keep)
    events = follow([answer], replies.client_left(request))
    if asked.chat.stream:
        return replies.stream_response([answer.ticket], teller.frames(events), teller.failed)
    return replies.json_response(teller.whole(events))


def count_input_tokens(kept: ResponseStore, service: Service) -> Response:
    """How many tokens the input of such a request is; nothing is generated."""
    body = read_json(request)
    loaded = service.ready_for(body)
    asked = read_response(body, loaded.defaults, loaded.limits(), kept.of(current_owner()))
    with response_names(asked.echo["tools"]), loaded.prompt_in("input"):
        token_ids, _ = encode_question(loaded, _fitting(loaded, asked))
    return replies.json_response({"object": "response.input_tokens", "input_tokens": len(token_ids)})


def compact_response(kept: ResponseStore, service: Service) -> Response:
    """ApiError 404: nothing here writes a conversation shorter."""
    raise ApiError(404, "Responses are not compacted here: send truncation auto, or fewer items.")


def retrieve_response(kept: ResponseStore, service: Service, response_id: str) -> Response:
    """A response that was kept, as it was sent."""
    query = _read_query("stream", "starting_after", "include_obfuscation")
    if query.get("stream", "false").lower() != "false" or "starting_after" in query:
        raise bad_field("stream", "a response that has ended is sent whole", code="unsupported_parameter")
    response = _find(kept, response_id).response
    return Response(response, mimetype="application/json")


def delete_response(kept: ResponseStore, service: Service, response_id: str) -> Response:
    """Keep a response no longer; later ones that were made from it stay whole."""
    if not kept.forget(current_owner(), response_id):
        raise _not_found(response_id)
    return replies.json_response({"id": response_id, "object": "response", "deleted": True})


def cancel_response(kept: ResponseStore, service: Service, response_id: str) -> Response:
    """ApiError 400: only one in the background can be cancelled; closing the connection stops any other."""
    _find(kept, response_id)
    raise ApiError(400, "Only responses in the background can be cancelled; this one was not.", param="response_id")


def list_input_items(kept: ResponseStore, service: Service, response_id: str) -> Response:
    """What a response was made of, with earlier turns: pages of items, the latest first unless told otherwise."""
    query = _read_query("limit", "order", "after")
    order = one_word(query.get("order"), "order", ORDERS) or "desc"
    limit = query_count(query, "limit", USUAL_LISTED, MOST_LISTED)
    items = list(_find(kept, response_id).input)
    if order == "desc":
        items.reverse()
    after = query.get("after")
    if after is not None:
        place = next((place for place, each in enumerate(items) if each.id == after), None)
        if place is None:
            raise bad_field("after", "this response has no item of this id")
        items = items[place + 1 :]
    page = items[:limit]
    body = {
        "object": "list",
        "data": [each.item for each in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": len(items) > len(page),
    }
    return replies.json_response(body)


def _read_query(*known: str) -> dict[str, str]:
    """These parameters, and beside them `include`, of which nothing is left out anyway."""
    query = read_query(request, known, INCLUDES)
    read_include([text for name in INCLUDES for text in request.args.getlist(name)])
    return query


def _fitting(loaded: Loaded, asked: ResponseRequest) -> ChatQuestion:
    """What is asked, without its oldest turns where the request allows that and they do not fit."""
    return shortened(loaded, asked.question) if asked.truncate else asked.question


def _find(kept: ResponseStore, response_id: str) -> KeptResponse:
    found = kept.find(current_owner(), response_id)
    if found is None:
        raise _not_found(response_id)
    return found


def _not_found(response_id: str) -> ApiError:
    return ApiError(404, f"Response with id {response_id[:80]!r} not found.", param="response_id")
