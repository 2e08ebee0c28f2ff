"""POST /tokenize, /detokenize and /apply-template: texts and chats as the tokens that a model reads, and back.

In the spellings of llama.cpp's server (`content`) and of vLLM (`prompt`, `messages`). No model runs for it.
"""

from collections.abc import Sequence
from typing import Any

from flask import Response, request

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.json_body import read_json
from moedge.edge_server.messages import MAX_TEXT, MAX_TOOLS, read_messages, read_tools
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.replies import Json, json_response
from moedge.edge_server.service import Service
from moedge.edge_server.template_fields import read_template_wishes
from moedge.edge_server.tool_choice import check_callable
from moedge.edge_server.wire import read_token_ids

SOURCES = ("content", "prompt", "messages")


def tokenize(service: Service) -> Response:
    """Token ids of a text, as POST /v1/completions reads it, or of a chat in the model's template.

    `add_special` puts what the model wants around a text: by default around a `prompt` and not around `content`, as the
    servers that call it so have it. Spellings of special tokens are text, unless `parse_special` says otherwise.
    ApiError 400 for what is longer than the context.
    """
    body = read_json(request)
    loaded = service.ready_for(body)
    fields = Fields(body)
    fields.text("model", 256)
    source = _source(fields, SOURCES)
    pieces, strings = fields.flag("with_pieces"), fields.flag("return_token_strs")
    if source == "messages":
        fields.only("add_special_tokens", False)  # the template writes them
        token_ids = _of_chat(fields, loaded)
    else:
        token_ids = _of_text(fields, loaded, source)
    answer: Json = {
        "tokens": [_piece(loaded, token_id) for token_id in token_ids] if pieces else token_ids,
        "count": len(token_ids),
        "max_model_len": loaded.context_length,
    }
    if strings:
        answer["token_strs"] = [_bytes(loaded, token_id).decode("utf-8", "replace") for token_id in token_ids]
    return json_response(answer)


def detokenize(service: Service) -> Response:
    """The text of token ids, at most as many as the context has; special tokens appear as their spelling."""
    body = read_json(request)
    loaded = service.ready_for(body)
    limits = loaded.limits()
    fields = Fields(body)
    fields.text("model", 256)
    token_ids = fields.items("tokens", limits.context_length)
    fields.done()
    if token_ids is None:
        raise bad_field("tokens", "it is required")
    text = loaded.engine.tokenizer.decode(read_token_ids(token_ids, "tokens", limits))
    return json_response({"content": text, "prompt": text})


def apply_template(service: Service) -> Response:
    """A chat as the text that the model reads of it, special tokens spelled out."""
    body = read_json(request)
    loaded = service.ready_for(body)
    fields = Fields(body)
    fields.text("model", 256)
    return json_response({"prompt": loaded.engine.tokenizer.decode(_of_chat(fields, loaded))})


def _source(fields: Fields, names: Sequence[str]) -> str:
    """Which field holds what is to be tokenized; ApiError 400 unless it is one."""
    given = [name for name in names if fields.take(name) is not None]
    if len(given) != 1:
        raise bad_field(given[1] if given else names[0], f"send one of {', '.join(names)}")
    return given[0]


def _of_text(fields: Fields, loaded: Loaded, source: str) -> list[int]:
    text = fields.required_text(source, MAX_TEXT)
    special = [fields.flag(name, source == "prompt") for name in ("add_special", "add_special_tokens")]
    stated = [fields.take(name) is not None for name in ("add_special", "add_special_tokens")]
    if all(stated) and special[0] is not special[1]:
        raise bad_field("add_special_tokens", "add_special says something else; send one of them")
    parse_special = fields.flag("parse_special")
    fields.done()
    with loaded.prompt_in(source):
        return loaded.engine.tokenizer.encode(
            text,
            allow_special=parse_special,
            add_special_tokens=special[1] if stated[1] else special[0],
            most=loaded.context_length,
        )


def _of_chat(fields: Fields, loaded: Loaded) -> list[int]:
    messages = read_messages(fields.take("messages"))
    tools = read_tools(fields.items("tools", MAX_TOOLS))
    check_callable(tools, loaded.limits())
    prompts = fields.flag("add_generation_prompt", True)
    fields.only("continue_final_message", False)
    variables = loaded.template_variables(read_template_wishes(fields))
    fields.done()
    with loaded.prompt_in("messages"):
        return loaded.engine.encode_chat(messages, tools or None, prompts, variables)


def _piece(loaded: Loaded, token_id: int) -> dict[str, Any]:
    """A token with what it spells: a text, or the bytes of what is none by itself."""
    spelled = _bytes(loaded, token_id)
    try:
        return {"id": token_id, "piece": spelled.decode()}
    except UnicodeDecodeError:
        return {"id": token_id, "piece": list(spelled)}


def _bytes(loaded: Loaded, token_id: int) -> bytes:
    return loaded.engine.tokenizer.token_bytes(token_id)
