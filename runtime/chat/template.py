"""Messages to the text of a prompt: the model's own Jinja template, rendered in a sandbox.

It owns the environment that templates expect of Hugging Face, its limits, and the rule that text of a user never
becomes a special token. It does not tokenize, and it does not read what the model answers (formats/).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.call_form import CallForm, call_form, with_calls
from moedge.runtime.chat.user_text import UserText
from moedge.runtime.prompt_too_long import PromptTooLong

MAX_CHARACTERS = 1 << 20  # of one rendered prompt
TOO_MANY_CHARACTERS = f"more than {MAX_CHARACTERS} characters"
MAX_STEPS = 200_000  # passes through loops and macros of one rendering, some 100 ms
STEP = "_moedge_step"


class ToolsNotShown(MoedgeError):  # noqa: N818 - it names what the template does
    """Tools for a template that never shows them: the model would not know that it has any."""


class ChatTemplate:
    """A compiled chat template.

    `special_tokens` are the spellings of every token that the tokenizer finds in text before it splits words (the
    added tokens, whether flagged special or not): these are what text of a user must not become.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Sequence[str] = (),
        bos_token: str | None = None,
        eos_token: str | None = None,
    ) -> None:
        environment = _Environment()
        try:
            self._template = environment.from_string(source)
            self.shows_tools = "tools" in meta.find_undeclared_variables(environment.parse(source))
        except TemplateError as error:
            raise MoedgeError(f"the chat template is not valid Jinja ({error}): export the bundle again.") from None
        names = {"bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in names.items() if token is not None}
        self._special_tokens = tuple(special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt as one text; see `render_pieces`."""
        pieces = self.render_pieces(messages, tools, add_generation_prompt)
        return "".join(text for text, _ in pieces)

    def render_pieces(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[tuple[str, bool]]:
        """The prompt as pieces to encode one by one; their concatenation is what the template rendered.

        True: special tokens of the template, and ordinary text between them. False: a stretch between two special
        tokens of the template in which text of a user spells one; encode it with special tokens off. Where users
        spell none, which is nearly always, this is one piece, and so the tokens are those of Hugging Face.

        MoedgeError if the template refuses the messages or exceeds its limits, `ToolsNotShown` if it drops the tools.
        """
        if tools and not self.shows_tools:
            raise ToolsNotShown("the chat template of this model never shows tools to it: send the request without.")
        user_text = UserText(self._special_tokens)
        calls = any(message.get("tool_calls") for message in messages)
        written = with_calls(messages, self._call_form) if calls else list(messages)
        marked = self._render(user_text.mark(written), user_text.mark(tools or None), add_generation_prompt)
        pieces = user_text.pieces(marked)
        if sum(len(text) for text, _ in pieces) > MAX_CHARACTERS:
            raise PromptTooLong(TOO_MANY_CHARACTERS)
        return pieces

    @cached_property
    def _call_form(self) -> CallForm:
        return call_form(lambda messages: self._render(messages, None, True))

    def _render(self, messages: Any, tools: Any, add_generation_prompt: bool) -> str:
        parts: list[str] = []
        characters = 0
        variables = {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            STEP: _step_counter(),
        }
        try:
            for part in self._template.generate(self._tokens | variables):
                parts.append(part)
                characters += len(part)
                if characters > 2 * MAX_CHARACTERS:  # twice: marks, which are removed, count here
                    raise PromptTooLong(TOO_MANY_CHARACTERS)
        except PromptTooLong:
            raise
        except _RefusedError as error:
            raise MoedgeError(f"the chat template refuses these messages: {error}") from None
        except Exception as error:  # the template is data: whatever it raises is its answer to these messages
            raise MoedgeError(f"the chat template cannot render these messages ({error}): change them.") from error
        return "".join(parts)


class _RefusedError(TemplateError):
    """What `raise_exception` of a template raises."""


class _GenerationTag(Extension):
    """`{% generation %}` marks text for training; here its body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it a plain set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """What templates on the Hub are written for, with every loop and macro counted."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        extensions = ["jinja2.ext.loopcontrols", _GenerationTag]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        counted: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
        for node in counted:
            count = nodes.ExprStmt(nodes.Call(nodes.Name(STEP, "load"), [], [], None, None))
            node.body.insert(0, count.set_lineno(node.lineno).set_environment(self))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply and raise to a power, unless that would make something huge."""
        product = operator == "*" and _size(left) * _size(right) > MAX_CHARACTERS
        power = operator == "**" and (_size(left) > MAX_CHARACTERS or _size(right) > 64)
        if product or power:
            raise SecurityError(f"`{operator}` with operands this large")
        return super().call_binop(context, operator, left, right)


def _size(value: Any) -> float:
    return float(len(value)) if isinstance(value, str | list | tuple) else abs(float(value))


def _step_counter() -> Callable[[], str]:
    steps = 0

    def count() -> str:
        nonlocal steps
        steps += 1
        if steps > MAX_STEPS:
            raise SecurityError(f"it loops more than {MAX_STEPS} times")
        return ""

    return count


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes <, > and & for HTML, which no model was trained on
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise _RefusedError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
