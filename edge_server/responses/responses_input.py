"""The input of a response: items of OpenAI's Responses API, checked and made whole.

What a template is shown of them is responses_context.py's matter, and keeping them responses_store.py's.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from moedge.edge_server.fields import Fields, bad_field, bounded_text, objects_in
from moedge.edge_server.foreign_fields import NOTES
from moedge.edge_server.messages import MAX_MESSAGES, MAX_TEXT
from moedge.edge_server.replies import new_id

Item = dict[str, Any]
Find = Callable[[str], Item | None]  # an item that was kept, by its id

ROLES = ("user", "assistant", "system", "developer")
LONGEST_ID = 256
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What a service says of its items and a client sends back.
_NOTES = NOTES | {"status", "phase", "created_by", "logprobs", "prompt_cache_breakpoint"}
_OUTPUT_OF = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}


def read_input(fields: Fields, earlier: Sequence[Item], find: Find) -> list[Item]:
    """The items of `input`, each with an id of its own; ApiError 400 names what does not fit.

    `earlier` stand before them: an output must follow its call. `find` gives what an item_reference means.
    """
    value = fields.take("input")
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not (value or earlier):
        raise fields.bad("input", "it must be a text or a list of items" if value else "it is required")
    if len(value) > MAX_MESSAGES:
        raise fields.bad("input", f"it has {len(value)} items, at most {MAX_MESSAGES} are accepted")
    taken = {item["id"] for item in earlier}
    calls = {(item["type"], item["call_id"]) for item in earlier if "call_id" in item}
    items = []
    for place, each in enumerate(value):
        item = _item(Fields(each, f"input[{place}]"), find)
        if item["id"] in taken:
            item = {**item, "id": new_id(f"{item['id'].partition('_')[0]}_")}
        taken.add(item["id"])
        call = _OUTPUT_OF.get(item["type"])
        if call is not None and (call, item["call_id"]) not in calls:
            raise bad_field(f"input[{place}].call_id", f"no {call} of this id stands before it")
        if "call_id" in item:
            calls.add((item["type"], item["call_id"]))
        items.append(item)
    return items


def _item(fields: Fields, find: Find) -> Item:
    kind = fields.take("type")
    if kind is None:
        kind = "item_reference" if fields.take("role") is None and fields.take("id") else "message"
    if kind == "item_reference":
        return _referred(fields, find)
    if not isinstance(kind, str) or kind not in _READERS:
        known = ", ".join([*_READERS, "item_reference"])
        raise bad_field(fields.path("type"), f"it must be one of {known}", code="unsupported_parameter")
    prefix, read = _READERS[kind]
    sent = fields.text("id", LONGEST_ID) or ""
    # one of another service may be anything
    identifier = sent if _ID.fullmatch(sent) else new_id(f"{prefix}_")
    item = {"id": identifier, "type": kind, **read(fields)}
    fields.only("namespace")
    fields.only("async", False)
    fields.only("caller", {"type": "direct"})
    fields.ignore(_NOTES)
    fields.done()
    return item


def _referred(fields: Fields, find: Find) -> Item:
    identifier = fields.required_text("id", LONGEST_ID)
    fields.done()
    item = find(identifier)
    if item is None:
        raise fields.bad("id", "no item of this id is kept here; send the item itself")
    return item


def _message(fields: Fields) -> Item:
    role = fields.take("role")
    if role not in ROLES:
        raise fields.bad("role", f"it must be one of {', '.join(ROLES)}")
    form = "output_text" if role == "assistant" else "input_text"
    content = fields.take("content")
    if isinstance(content, str):
        parts = [_text(form, bounded_text(content, fields.path("content"), MAX_TEXT))]
    else:
        parts = _parts(fields, content, form)
    return {"role": role, "content": parts, "status": "completed"}


def _parts(fields: Fields, content: object, form: str) -> list[Item]:
    """The parts of a content, all of them texts, in the form of their place."""
    where = fields.path("content")
    if not isinstance(content, list):
        raise bad_field(where, "it must be a string or a list of parts")
    return [_part(each, form) for each in objects_in(content, where)]


def _part(fields: Fields, form: str) -> Item:
    kind = fields.take("type")
    if kind == "refusal" and form == "output_text":
        part = {"type": "refusal", "refusal": fields.required_text("refusal", MAX_TEXT)}
    elif kind in ("input_text", "output_text"):
        part = _text(form, fields.required_text("text", MAX_TEXT))
    else:
        reason = f"this server's models read text alone, so it must be {form}"
        raise bad_field(fields.path("type"), reason, code="unsupported_parameter")
    fields.ignore(_NOTES)
    fields.done()
    return part


def _text(form: str, text: str) -> Item:
    more: Item = {"annotations": [], "logprobs": []} if form == "output_text" else {}
    return {"type": form, "text": text, **more}


def _function_call(fields: Fields) -> Item:
    arguments = fields.required_text("arguments", MAX_TEXT)
    return {**_call(fields), "arguments": arguments, "status": "completed"}


def _custom_tool_call(fields: Fields) -> Item:
    return {**_call(fields), "input": fields.required_text("input", MAX_TEXT)}


def _call(fields: Fields) -> Item:
    call_id = fields.required_text("call_id", LONGEST_ID)
    return {"call_id": call_id, "name": fields.required_text("name", 256)}


def _call_output(fields: Fields) -> Item:
    call_id = fields.required_text("call_id", LONGEST_ID)
    fields.text("name", 256)  # the call says it
    output = fields.take("output")
    where = fields.path("output")
    if isinstance(output, list):
        output = [_part(each, "input_text") for each in objects_in(output, where)]
    elif isinstance(output, str):
        bounded_text(output, where, MAX_TEXT)
    else:
        raise bad_field(where, "it must be a string or a list of input_text parts")
    return {"call_id": call_id, "output": output, "status": "completed"}


def _reasoning(fields: Fields) -> Item:
    """Encrypted thinking is another service's, which alone can read it; it is no thinking here."""
    fields.ignore(("encrypted_content",))
    return {
        "summary": _thoughts(fields, "summary", "summary_text"),
        "content": _thoughts(fields, "content", "reasoning_text"),
        "status": "completed",
    }


def _thoughts(fields: Fields, name: str, form: str) -> list[Item]:
    thoughts = []
    for each in fields.objects(name, MAX_MESSAGES):
        each.only("type", form)
        thoughts.append({"type": form, "text": each.required_text("text", MAX_TEXT)})
        each.done()
    return thoughts


_READERS: dict[str, tuple[str, Callable[[Fields], Item]]] = {
    "message": ("msg", _message),
    "reasoning": ("rs", _reasoning),
    "function_call": ("fc", _function_call),
    "function_call_output": ("fco", _call_output),
    "custom_tool_call": ("ctc", _custom_tool_call),
    "custom_tool_call_output": ("ctco", _call_output),
}
