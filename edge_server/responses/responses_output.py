"""The output of a response while it is said: items that grow, and the events that tell of each step.

The items at the end are what the events add up to, whether anybody reads them or not.
"""

import json
from collections.abc import Iterator
from typing import Any

from moedge.edge_server.answering import Said
from moedge.edge_server.logprobs import token_logprobs
from moedge.edge_server.replies import Json, new_id
from moedge.edge_server.responses.responses_context import CUSTOM_INPUT
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning


class ResponseOutput:
    """The items of one answer. Events are without their numbers, and hold the items themselves, which grow on."""

    def __init__(self, custom: frozenset[str]) -> None:
        self.items: list[Json] = []
        self._custom = custom  # names of tools whose input is a text
        self._arguments = ""  # of the custom tool that is being called
        self._closed = True

    def read(self, said: Said) -> Iterator[Json]:
        """The events of one part of the answer."""
        match said.delta:
            case Reasoning(text):
                yield from self._say("reasoning", text)
            case Content(text):
                yield from self._say("message", text, [] if said.logprobs is None else token_logprobs(said.logprobs))
            case CallStart(_, identifier, name):
                yield from self.close()
                yield from self._begin_call(identifier, name)
            case CallArguments(_, text):
                yield from self._add_arguments(text)

    def close(self, status: str = "completed") -> Iterator[Json]:
        """The events that end the last item, if it is open."""
        if self._closed:
            return
        self._closed, item = True, self.items[-1]
        match item["type"]:
            case "function_call":
                yield self._event("function_call_arguments.done", name=item["name"], arguments=item["arguments"])
            case "custom_tool_call":
                item["input"] = _custom_input(self._arguments)
                yield self._event("custom_tool_call_input.delta", delta=item["input"])
                yield self._event("custom_tool_call_input.done", input=item["input"])
            case _:
                (part,) = item["content"]
                told = {"text": part["text"], **({"logprobs": part["logprobs"]} if "logprobs" in part else {})}
                yield self._event(f"{part['type']}.done", content_index=0, **told)
                yield self._event("content_part.done", content_index=0, part=part)
        if "status" in item:
            item["status"] = status
        yield self._whole("output_item.done")

    def _say(self, kind: str, text: str, logprobs: list[Json] | None = None) -> Iterator[Json]:
        if self._closed or self.items[-1]["type"] != kind:
            yield from self.close()
            yield from self._begin_text(kind)
        (part,) = self.items[-1]["content"]
        part["text"] += text
        told = {}
        if logprobs is not None:
            part["logprobs"] += logprobs
            told = {"logprobs": logprobs}
        yield self._event(f"{part['type']}.delta", content_index=0, delta=text, **told)

    def _begin_text(self, kind: str) -> Iterator[Json]:
        part: Json
        item: Json
        if kind == "reasoning":
            part = {"type": "reasoning_text", "text": ""}
            item = {"id": new_id("rs_"), "type": kind, "summary": [], "encrypted_content": None}
        else:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item = {"id": new_id("msg_"), "type": kind, "role": "assistant"}
        yield self._begin({**item, "content": [], "status": "in_progress"})
        self.items[-1]["content"].append(part)
        yield self._event("content_part.added", content_index=0, part=part)

    def _begin_call(self, call_id: str, name: str) -> Iterator[Json]:
        self._arguments = ""
        call = {"call_id": call_id, "name": name}
        if name in self._custom:
            item = {"id": new_id("ctc_"), "type": "custom_tool_call", **call, "input": ""}
        else:
            identifier = new_id("fc_")
            item = {"id": identifier, "type": "function_call", **call, "arguments": "", "status": "in_progress"}
        yield self._begin(item)

    def _add_arguments(self, text: str) -> Iterator[Json]:
        item = self.items[-1]
        if item["type"] == "custom_tool_call":
            self._arguments += text
            return
        item["arguments"] += text
        yield self._event("function_call_arguments.delta", delta=text)

    def _begin(self, item: Json) -> Json:
        self.items.append(item)
        self._closed = False
        return self._whole("output_item.added")

    def _whole(self, name: str) -> Json:
        return {"type": f"response.{name}", "output_index": len(self.items) - 1, "item": self.items[-1]}

    def _event(self, name: str, /, **more: Any) -> Json:
        item_id = self.items[-1]["id"]
        return {"type": f"response.{name}", "item_id": item_id, "output_index": len(self.items) - 1, **more}


def _custom_input(arguments: str) -> str:
    """The text among the arguments of a custom tool; as they are where the model wrote or finished none."""
    try:
        text = json.loads(arguments)[CUSTOM_INPUT]
    except (ValueError, TypeError, LookupError, RecursionError):
        return arguments
    return text if isinstance(text, str) else arguments
