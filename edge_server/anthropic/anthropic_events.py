"""An answer as Anthropic tells it: blocks of thinking, text and calls, and the events that they stream in.

Both are made here of the same deltas, so that a stream adds up to the whole message.
"""

from typing import Literal

from moedge.edge_server.anthropic.anthropic_ids import give_call_id
from moedge.edge_server.anthropic.anthropic_signatures import sign
from moedge.edge_server.anthropic.call_input import CallInput
from moedge.edge_server.replies import Json
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning

AnswerBlockKind = Literal["thinking", "text", "tool_use"]


class AnswerBlocks:
    """Deltas in, events out; `content` has the blocks that are complete. Without `shows_thinking` its text is not told.

    One block is open at a time: a delta of another kind, and each call, begins the next.
    """

    def __init__(self, shows_thinking: bool = True) -> None:
        self.content: list[Json] = []
        self._shows_thinking = shows_thinking
        self._open: Json | None = None
        self._texts: list[str] = []  # of the open block
        self._input = CallInput()  # of the open call

    def read(self, delta: Delta) -> list[Json]:
        """The events of a delta."""
        match delta:
            case Reasoning(text):
                events = self._enter("thinking", {"thinking": "", "signature": ""})
                self._texts.append(text)
                if self._shows_thinking:
                    events.append(self._delta("thinking_delta", thinking=text))
            case Content(text):
                events = self._enter("text", {"text": ""})
                self._texts.append(text)
                events.append(self._delta("text_delta", text=text))
            case CallStart(_, identifier, name):
                events = [*self.close(), *self._enter("tool_use", {"id": give_call_id(identifier), "name": name})]
            case CallArguments(_, text):
                events = self._argue(self._input.push(text))
        return events

    def close(self) -> list[Json]:
        """The events that end the open block, none if there is none."""
        block = self._open
        if block is None:
            return []
        events: list[Json] = []
        match block["type"]:
            case "thinking":
                thought = "".join(self._texts)
                block["thinking"] = thought if self._shows_thinking else ""
                block["signature"] = sign(thought, self._shows_thinking)
                events.append(self._delta("signature_delta", signature=block["signature"]))
            case "text":
                block["text"] = "".join(self._texts)
            case "tool_use":
                events += self._argue(self._input.finish())
                block["input"] = self._input.value
        events.append({"type": "content_block_stop", "index": len(self.content)})
        self.content.append(block)
        self._open = None
        return events

    def _enter(self, kind: AnswerBlockKind, fields: Json) -> list[Json]:
        """The events up to the begin of a block of this kind; none if one is open."""
        if self._open is not None and self._open["type"] == kind:
            return []
        events = self.close()
        self._open = {"type": kind, **fields, **({"input": {}} if kind == "tool_use" else {})}
        self._texts, self._input = [], CallInput()
        start = {"type": "content_block_start", "index": len(self.content), "content_block": dict(self._open)}
        return [*events, start]

    def _argue(self, text: str) -> list[Json]:
        return [self._delta("input_json_delta", partial_json=text)] if text else []

    def _delta(self, kind: str, **said: str) -> Json:
        return {"type": "content_block_delta", "index": len(self.content), "delta": {"type": kind, **said}}
