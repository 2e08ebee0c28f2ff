"""What a chat request asks, whichever wire format it came in, and what of a model bounds it."""

import json
from dataclasses import dataclass
from typing import Any

from moedge.edge_server.messages import Message, Tool
from moedge.edge_server.response_format import AskedContent
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.forms.answer_form import AnswerForm, CallChoice, FormTool
from moedge.runtime.sampling import SamplingParams


@dataclass(frozen=True)
class ModelLimits:
    """What of the model bounds a request."""

    vocab_size: int
    context_length: int
    calls_tools: bool


@dataclass(frozen=True)
class ChatQuestion:
    """What a chat request asks, in whichever wire format. `tools` are those that the model is shown."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    most_calls: int | None  # that an answer may hold, None for any number
    params: SamplingParams  # its stop strings are those of what the user reads
    content: AskedContent
    wishes: Wishes
    thinking_budget: int | None = None  # tokens
    answers: int = 1
    continues: bool = False  # the answer goes on where the last message, the assistant's, ends
    must_call: bool = False
    declared: tuple[str, ...] = ()  # the names of all tools of the request
    strict: frozenset[str] = frozenset()  # the names of tools whose calls are held to all of their schema, or refused

    @property
    def form(self) -> AnswerForm:
        """What an answer may be."""
        functions = [tool["function"] for tool in self.tools]
        tools = tuple(
            FormTool(each["name"], _schema(each.get("parameters")), each["name"] in self.strict) for each in functions
        )
        calls: CallChoice = "required" if self.must_call and self.most_calls != 0 else "auto"
        return AnswerForm(self.content.grammar, tools, calls, self.most_calls, self.continues)


def _schema(parameters: Any) -> str | None:
    return None if parameters is None else json.dumps(parameters, ensure_ascii=False)
