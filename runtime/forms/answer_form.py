"""What an answer may be: the form of its content, the tools that it may call, and whether it must."""

from dataclasses import dataclass
from typing import Literal

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import AnswerGrammar

CallChoice = Literal["auto", "required", "none"]


class UnfitTool(MoedgeError):  # noqa: N818 - it names what was declared
    """The arguments of a tool cannot be held to its schema; `tool` is its name."""

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(f"the arguments of {tool} cannot be held to its parameters: {reason.rstrip('.')}.")
        self.tool = tool


@dataclass(frozen=True)
class FormTool:
    """A tool that may be called; `parameters` is the JSON schema of its arguments, as text, None for no arguments.

    `strict`: what of the schema cannot be held to is refused. Otherwise such keywords are left to the model.
    """

    name: str
    parameters: str | None = None
    strict: bool = False


@dataclass(frozen=True)
class AnswerForm:
    """`content` None is free text. Of the calls `most_calls` may be made, None: any number.

    With `calls` "auto" an answer is content, or calls behind free text, or calls instead of a content that has a form;
    "required": calls alone. Thinking before is free. `begun`: the prompt ends within free content.
    """

    content: AnswerGrammar | None = None
    tools: tuple[FormTool, ...] = ()
    calls: CallChoice = "auto"
    most_calls: int | None = None
    begun: bool = False

    @property
    def called(self) -> tuple[FormTool, ...]:
        """The tools that an answer may call."""
        return () if self.calls == "none" else self.tools

    @property
    def excludes(self) -> bool:
        """Whether an answer is either content or calls, never both."""
        return self.content is not None and bool(self.called)


FREE = AnswerForm()
