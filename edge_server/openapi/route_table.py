"""Which routes there are, and what each takes and answers; tests hold this table against the application's own."""

import moedge.edge_server.openapi.answer_bodies as answer_bodies
import moedge.edge_server.openapi.chat_bodies as chat_bodies
import moedge.edge_server.openapi.message_bodies as message_bodies
import moedge.edge_server.openapi.response_bodies as response_bodies
from moedge.edge_server.live_experts import ENCODINGS
from moedge.edge_server.messages import MAX_TEXT, MAX_TOOLS
from moedge.edge_server.openapi.json_schemas import (
    FLAG,
    answer,
    any_of,
    items,
    nullable,
    one,
    record,
    reference,
    text,
    values,
    whole,
)
from moedge.edge_server.openapi.operations import ASK, EVENTS, JSON, MODEL, READ, SEARCH, Operation
from moedge.edge_server.responses.responses import MOST_LISTED, ORDERS
from moedge.edge_server.template_fields import BUDGETS

STREAM = record(
    {"event": text(), "data": text(description="JSON, or [DONE] at the end of a stream in OpenAI's form.")},
    ["data"],
    more=True,
    description="One of the server-sent events.",
)
STATUS = answer({"status": text()})
ANTHROPIC = (*ASK, 529)  # a status of its own
LANGUAGES = ("application/openmetrics-text", "text/plain")
VERSIONED = ("anthropic-version",)


def routes() -> dict[str, dict[str, Operation]]:
    """Of each path, in OpenAPI's spelling, the operation of each method; HEAD goes with GET."""
    return {**_server(), **_models(), **_chats(), **_messages(), **_responses(), **_tokens()}


def _server() -> dict[str, dict[str, Operation]]:
    return {
        "/": {
            "GET": Operation("The chat page.", "server", {"text/html": text()}, READ, more={304: "The browser has it."})
        },
        "/livez": {"GET": _probe("Whether a restart would not help.")},
        "/readyz": {"GET": _probe("Whether a request would be taken.")},
        "/health": {"GET": Operation("As /readyz, with a key.", "server", {JSON: STATUS})},
        "/metrics": {
            "GET": Operation(
                "What the server did, for Prometheus.",
                "server",
                dict.fromkeys(LANGUAGES, text()),
                SEARCH,
                query={"name[]": items(text())},
                headers=("Accept",),
            )
        },
        "/openapi.json": {"GET": Operation("This description.", "server", {JSON: answer_bodies.anything()}, READ)},
    }


def _probe(summary: str) -> Operation:
    return Operation(summary, "server", {JSON: STATUS}, (500, 503), open=True)


def _models() -> dict[str, dict[str, Operation]]:
    listed = any_of(
        answer({"object": one("list"), "data": items(reference("Model"))}),
        record({"data": items(answer_bodies.anthropic_model()), "has_more": FLAG}, ["data", "has_more"], more=True),
    )
    return {
        "/v1/models": {
            "GET": Operation(
                "The models that requests may name.",
                "models",
                {JSON: listed},
                MODEL,
                shape="AnyError",
                headers=VERSIONED,
            )
        },
        "/v1/models/{model}": {
            "GET": Operation(
                "One of them; its name may hold slashes.",
                "models",
                {JSON: any_of(reference("Model"), answer_bodies.anthropic_model())},
                MODEL,
                shape="AnyError",
                headers=VERSIONED,
            )
        },
        "/props": {
            "GET": Operation(
                "What a model is and how it is served.",
                "models",
                {JSON: reference("Props")},
                MODEL,
                query={"model": text()},
            )
        },
        "/experts": {
            "GET": Operation(
                "How often each expert was chosen.",
                "models",
                {JSON: answer_bodies.experts()},
                MODEL,
                query={"model": text(), "encoding": values(*ENCODINGS)},
            )
        },
    }


def _chats() -> dict[str, dict[str, Operation]]:
    return {
        "/v1/chat/completions": {
            "POST": Operation(
                "Answer a chat.",
                "OpenAI",
                {JSON: reference("ChatCompletion"), EVENTS: STREAM},
                ASK,
                reference("ChatRequest"),
            )
        },
        "/v1/completions": {
            "POST": Operation(
                "Continue a text.",
                "OpenAI",
                {JSON: reference("Completion"), EVENTS: STREAM},
                ASK,
                reference("CompletionRequest"),
            )
        },
        "/v1/embeddings": {
            "POST": Operation(
                "Always a 400: models here write text and embed none.",
                "OpenAI",
                {JSON: answer_bodies.anything()},
                ASK,
                answer_bodies.anything(),
            )
        },
    }


def _messages() -> dict[str, dict[str, Operation]]:
    return {
        "/v1/messages": {
            "POST": Operation(
                "Answer a chat in Anthropic's form.",
                "Anthropic",
                {JSON: reference("AnthropicMessage"), EVENTS: STREAM},
                ANTHROPIC,
                reference("AnthropicRequest"),
                shape="AnthropicError",
            )
        },
        "/v1/messages/count_tokens": {
            "POST": Operation(
                "Count the tokens of such a request.",
                "Anthropic",
                {JSON: message_bodies.token_count()},
                ANTHROPIC,
                message_bodies.count_request(),
                shape="AnthropicError",
            )
        },
    }


def _responses() -> dict[str, dict[str, Operation]]:
    return {
        "/v1/responses": {
            "POST": Operation(
                "Answer in OpenAI's newer form.",
                "responses",
                {JSON: reference("Response"), EVENTS: STREAM},
                ASK,
                reference("ResponseRequest"),
            )
        },
        "/v1/responses/compact": {
            "POST": Operation(
                "Always a 404: nothing is compacted here.",
                "responses",
                {JSON: answer_bodies.anything()},
                ASK,
                answer_bodies.anything(),
            )
        },
        "/v1/responses/input_tokens": {
            "POST": Operation(
                "Count the tokens of such a request.",
                "responses",
                {JSON: response_bodies.input_count()},
                ASK,
                reference("ResponseRequest"),
            )
        },
        "/v1/responses/{response_id}": {
            "GET": Operation("A response that was kept.", "responses", {JSON: reference("Response")}, MODEL),
            "DELETE": Operation("Keep it no longer.", "responses", {JSON: response_bodies.deleted()}, MODEL),
        },
        "/v1/responses/{response_id}/cancel": {
            "POST": Operation(
                "Always a 400: no response is made in the background.",
                "responses",
                {JSON: answer_bodies.anything()},
                MODEL,
            )
        },
        "/v1/responses/{response_id}/input_items": {
            "GET": Operation(
                "What it was made of.",
                "responses",
                {JSON: response_bodies.item_page()},
                MODEL,
                query={"limit": whole(1, MOST_LISTED), "order": values(*ORDERS), "after": text()},
            )
        },
    }


def _tokens() -> dict[str, dict[str, Operation]]:
    shown = {
        "messages": chat_bodies.messages(),
        **nullable({"tools": items(reference("Tool"), MAX_TOOLS), "add_generation_prompt": FLAG}),
        **nullable(chat_bodies.templates()),
        "model": text(256),
        "continue_final_message": values(False, None),
    }
    shown = {name: schema for name, schema in shown.items() if name not in BUDGETS}
    special = nullable({"add_special": FLAG, "add_special_tokens": FLAG, "parse_special": FLAG})
    told = nullable({"with_pieces": FLAG, "return_token_strs": FLAG, "model": text(256)})
    bodies = any_of(
        record({"content": text(MAX_TEXT), **special, **told}, ["content"]),
        record({"prompt": text(MAX_TEXT), **special, **told}, ["prompt"]),
        record({**shown, **told, "add_special_tokens": values(False, None)}, ["messages"]),
    )
    return {
        "/tokenize": {
            "POST": Operation("A text or a chat as token ids.", "tokens", {JSON: answer_bodies.tokens()}, ASK, bodies)
        },
        "/detokenize": {
            "POST": Operation(
                "Token ids as a text.",
                "tokens",
                {JSON: answer({"content": text(), "prompt": text()})},
                ASK,
                record({"tokens": items(whole(0)), "model": text(256)}, ["tokens"]),
            )
        },
        "/apply-template": {
            "POST": Operation(
                "A chat as the text that the model reads.",
                "tokens",
                {JSON: answer({"prompt": text()})},
                ASK,
                record(shown, ["messages"]),
            )
        },
    }
