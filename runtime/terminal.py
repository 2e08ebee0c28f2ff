"""What `moedge run` shows and asks: a streamed answer, and the chat. The answers come from `conversation.py`.

On a terminal thinking is dim, tool calls are marked and numbers follow on stderr; otherwise stdout gets the text alone.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.conversation import Answer, Call, Conversation

# a model's output must not steer the terminal: all control characters but tab and newline
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))
_STYLES: dict[type[Delta], str] = {Reasoning: "dim", Content: "", CallStart: "cyan", CallArguments: "cyan"}


class Screen:
    """Standard output while an answer streams."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._console = _console() if self.is_terminal else None
        self._kind: type[Delta] | None = None
        self._at_line_start = True

    def show(self, part: Delta) -> None:
        """Print one part of an answer; thinking and calls only for people."""
        if not self.is_terminal:
            if isinstance(part, Content):
                self._write(part.text, "")
            return
        kind = Reasoning if isinstance(part, Reasoning) else Content if isinstance(part, Content) else CallStart
        if kind is not self._kind or isinstance(part, CallStart):
            self.end_line()
            self._kind = kind
        text = f"{part.name} " if isinstance(part, CallStart) else part.text
        self._write(text, _STYLES[type(part)])

    def show_text(self, text: str) -> None:
        """Print text of a model as it is."""
        self._write(text, "")

    def show_calls(self, calls: Sequence[Call]) -> None:
        """Where no person reads: one line of JSON a call."""
        for call in calls if not self.is_terminal else ():
            self.end_line()
            self._write(json.dumps({"id": call.id, "name": call.name, "arguments": call.arguments}), "")

    def end_line(self) -> None:
        """Begin a new line unless at one."""
        if not self._at_line_start:
            self._write("\n", "")

    def note(self, text: str) -> None:
        """A dim line on stderr, for people."""
        if self._console is not None:
            self.end_line()
            _console(stderr=True).print(text, style="dim", highlight=False, markup=False)

    def _write(self, text: str, style: str) -> None:
        if not text:
            return
        if self._console is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._console.out(text.translate(_CONTROL), style=style or None, end="", highlight=False)
        self._at_line_start = text.endswith("\n")


def _console(stderr: bool = False) -> Any:
    from rich.console import Console  # it takes longer to import than the rest of this file, and pipes need none

    return Console(stderr=stderr, soft_wrap=True)


def print_text(answer: Answer, screen: Screen) -> bool:
    """Stream text without a template; False if Ctrl-C ended it."""
    with _on_ctrl_c(answer.stop):
        for token in answer:
            screen.show_text(token.text)
    return _close(answer, screen)


def print_answer(conversation: Conversation, screen: Screen) -> bool:
    """Stream the next answer of a conversation; False if Ctrl-C ended it."""
    answer = conversation.begin()
    with _on_ctrl_c(answer.stop):
        for part in conversation.stream(answer):
            screen.show(part)
    screen.show_calls(conversation.open_calls())
    return _close(answer, screen)


def chat(conversation: Conversation, screen: Screen) -> None:
    """Ask and answer until Ctrl-D; Ctrl-C ends an answer, or empties the line that is being typed."""
    with suppress(ImportError):
        import readline  # noqa: F401 - makes `input` editable
    screen.note("Ctrl-D ends the chat, Ctrl-C an answer, /clear starts over.")
    while (text := _ask("> ")) is not None:
        if text.strip() == "/clear":
            conversation.clear()
        elif text.strip():
            _turn(conversation, screen, text)


def _turn(conversation: Conversation, screen: Screen, text: str) -> None:
    before = len(conversation.messages)
    conversation.say(text)
    try:
        finished = print_answer(conversation, screen)
        while finished and (calls := conversation.open_calls()):
            for call in calls:
                result = _ask(f"result of {call.name}> ")
                conversation.give_result(call, result or "")
            finished = print_answer(conversation, screen)
    except MoedgeError as error:  # a conversation that grew too long can still be cleared
        del conversation.messages[before:]
        screen.note(f"{error} (Your last message was taken back.)")


def _ask(prompt: str) -> str | None:
    """A line from the keyboard; None at its end."""
    while True:
        try:
            return input(prompt)
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()


def _close(answer: Answer, screen: Screen) -> bool:
    screen.end_line()
    screen.note(numbers(answer))
    return answer.finish_reason is not None


def numbers(answer: Answer) -> str:
    """Tokens and tokens a second of one answer, in a line."""
    fresh = answer.prompt_tokens - answer.cached_tokens
    parts = [f"prompt {answer.prompt_tokens} tokens"]
    if answer.generated_tokens and answer.prompt_seconds > 0:
        parts[0] += f" at {fresh / answer.prompt_seconds:.1f}/s"
    if answer.cached_tokens:
        parts[0] += f" ({answer.cached_tokens} cached)"
    parts.append(f"answer {answer.generated_tokens} tokens")
    if answer.tokens_per_second:
        parts[1] += f" at {answer.tokens_per_second:.1f}/s"
    ends = {"stop": (), "length": ("cut at the limit of tokens",), None: ("stopped",)}
    return ", ".join((*parts, *ends[answer.finish_reason]))


def read_tools(path: Path) -> list[Mapping[str, Any]]:
    """A JSON list of tools in OpenAI's form, `{"type": "function", "function": {...}}`."""
    try:
        tools = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MoedgeError(f"{path} is not JSON: {error}.") from None
    if not isinstance(tools, list) or not all(
        isinstance(tool, dict) and isinstance(tool.get("function"), dict) and "name" in tool["function"]
        for tool in tools
    ):
        raise MoedgeError(f'{path} is not a list of {{"type": "function", "function": {{"name": ...}}}}.')
    return tools


@contextmanager
def _on_ctrl_c(action: Callable[[], None]) -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
