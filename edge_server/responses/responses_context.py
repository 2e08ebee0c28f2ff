"""What a model is shown of the items of a response's input: messages of a chat, and fewer of them if they are too many.

How items look is responses_input.py's matter.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from moedge.edge_server.answering import encode_question
from moedge.edge_server.messages import Message
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.questions import ChatQuestion
from moedge.edge_server.responses.responses_input import Item
from moedge.runtime.prompt_too_long import PromptTooLong

CUSTOM_INPUT = "input"  # the one argument of the function that stands for a custom tool


def conversation(items: Sequence[Item], instructions: str | None) -> list[Message]:
    """The messages of a chat, in OpenAI's form: what an answer thought, said and called is one message again.

    Texts of the system that stand first are one message, since several templates know only one.
    """
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        match item:
            case {"type": "message", "role": "user" | "system" | "developer" as role, "content": parts}:
                messages.append({"role": "user" if role == "user" else "system", "content": _text(parts)})
            case {"output": output, "call_id": call_id}:
                text = output if isinstance(output, str) else _text(output)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
            case _:
                _add(messages, item)
    leading = _leading(messages)
    if leading > 1:
        text = "\n\n".join(message["content"] for message in messages[:leading])
        messages[:leading] = [{"role": "system", "content": text}]
    return messages


def _add(messages: list[Message], item: Item) -> None:
    """Part of an answer, to the one that is being told, or to a new one if that has said its text."""
    turn = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    ended = turn is not None and turn["content"] and "tool_calls" not in turn
    if turn is None or (ended and item["type"] in ("message", "reasoning")):
        turn = {"role": "assistant", "content": ""}
        messages.append(turn)
    match item["type"]:
        case "message":
            turn["content"] += _text(item["content"])
        case "reasoning":
            thought = _text(item["content"] or item["summary"])
            turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
        case _:
            arguments = item["arguments"] if "arguments" in item else json.dumps({CUSTOM_INPUT: item["input"]})
            function = {"name": item["name"], "arguments": arguments}
            turn.setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})


def _text(parts: Sequence[Item]) -> str:
    return "".join(part.get("text", "") or part.get("refusal", "") for part in parts)


def shortened(loaded: Loaded, question: ChatQuestion) -> ChatQuestion:
    """The question with as few of its oldest turns left out as let it and an answer fit the context.

    A turn begins with what the user says; the last one and the system's text before the first stay. For the answer
    `max_tokens` are left free, but half the context at most, or an eighth if there is no such bound.
    """
    messages = question.messages
    context = loaded.context_length
    room = min(question.params.max_tokens or context // 8, context // 2)
    first = _leading(messages)
    turns = [place for place in range(first, len(messages)) if messages[place]["role"] == "user"] or [first]
    begins = [first, *turns[1:]]  # what stands before the user's first word is of the first turn

    def latest(count: int) -> ChatQuestion:
        return replace(question, messages=(*messages[:first], *messages[begins[-count] :]))

    def fits(count: int) -> bool:
        try:
            token_ids, _ = encode_question(loaded, latest(count))
        except PromptTooLong:
            return False
        return len(token_ids) <= context - room

    # from the last turn on, twice as many each time: what is far too long is never rendered whole
    held, beyond = 1, 2
    while beyond <= len(begins) and fits(beyond):
        held, beyond = beyond, min(2 * beyond, max(len(begins), beyond + 1))
    while beyond - held > 1:
        middle = (held + beyond) // 2
        held, beyond = (middle, beyond) if fits(middle) else (held, middle)
    return latest(held)


def _leading(messages: Sequence[Message]) -> int:
    """How many messages of the system stand first."""
    return next((place for place, message in enumerate(messages) if message["role"] != "system"), len(messages))
