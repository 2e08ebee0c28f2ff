"""What a chat request asks, whichever wire format it came in, and what of a model bounds it."""

from dataclasses import dataclass

from moedge.edge_server.messages import Message, Tool
from moedge.runtime.chat.wishes import Wishes
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
    schema: str | None  # that the content must be of
    wishes: Wishes
    thinking_budget: int | None = None  # tokens
    answers: int = 1
