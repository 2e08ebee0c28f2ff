"""Messages to the text of a prompt: the model's own Jinja template, rendered in a sandbox.

It owns the rule that text of a user never becomes a special token. The sandbox and its limits are environment.py's; it
does not tokenize, and it does not read what the model answers (formats/).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import meta

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.dialect import Dialect, find_dialect, thought_of
from moedge.runtime.chat.environment import STEP, RefusedError, TemplateEnvironment
from moedge.runtime.chat.grammar import END_THINK, THINK
from moedge.runtime.chat.meter import MAX_CHARACTERS, RenderMeter
from moedge.runtime.chat.turns import in_dialect, plain_message, thinking_tags, whole_tool
from moedge.runtime.chat.user_text import UserText
from moedge.runtime.chat.variables import UnknownVariable, effort_variables, names_read, thinking_on
from moedge.runtime.chat.wishes import Effort, Wishes
from moedge.runtime.prompt_too_long import PromptTooLong

TOO_MANY_CHARACTERS = f"more than {MAX_CHARACTERS} characters"
# what no wish sets
_OWN = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message", STEP})
_TOKENS = frozenset({"bos_token", "eos_token", "pad_token", "unk_token"})
_PROBE = {"role": "user", "content": "moedge"}
_TOOL = whole_tool({"type": "function", "function": {"name": "moedge_tool"}})


class ToolsNotShown(MoedgeError):  # noqa: N818 - it names what the template does
    """Tools for a template that never shows them: the model would not know that it has any."""


class CannotRender(MoedgeError):  # noqa: N818 - it names what the template does
    """Messages or tools that the template refuses, or fails on."""


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
        environment = TemplateEnvironment()
        try:
            self._template = environment.from_string(source)
            tree = environment.parse(source)
        except Exception as error:  # of Python's compiler too, for what is nested too deep
            raise MoedgeError(f"the chat template is not valid Jinja ({error}): export the bundle again.") from None
        self.shows_tools = "tools" in meta.find_undeclared_variables(tree)
        self.variables = frozenset(names_read(tree) - _OWN - _TOKENS)
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}
        self._special_tokens = tuple(special_tokens)
        self._efforts: dict[Effort, dict[str, Any]] = {}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt as one text; see `render_pieces`."""
        pieces = self.render_pieces(messages, tools, add_generation_prompt, variables)
        return "".join(text for text, _ in pieces)

    def render_pieces(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[tuple[str, bool]]:
        """The prompt as pieces to encode one by one; their concatenation is what the template rendered.

        True: special tokens of the template, and ordinary text between them. False: a stretch between two special
        tokens of the template in which text of a user spells one; encode it with special tokens off. Where users
        spell none, which is nearly always, this is one piece, and so the tokens are those of Hugging Face.

        `variables` are what the template reads beside the conversation, as `choose` gives them.
        MoedgeError if the template refuses the messages or exceeds its limits, `ToolsNotShown` if it drops the tools.
        """
        if tools and not self.shows_tools:
            raise ToolsNotShown("the chat template of this model never shows tools to it: send the request without.")
        user_text = UserText(self._special_tokens)
        turns: list[Mapping[str, Any]] = [plain_message(message) for message in messages]
        if any(map(_is_special, turns)):
            turns = in_dialect(turns, self._dialect)
        marked = [self._mark(message, user_text) for message in turns]
        given = {name: user_text.mark(value) for name, value in (variables or {}).items()}

        def render(tools: Sequence[Mapping[str, Any]] | None) -> str:
            return self._render(marked, user_text.mark(tools), add_generation_prompt, given)

        try:
            text = render(tools or None)
        except CannotRender:  # descriptions and parameters are optional in OpenAI's form, and not in every template
            whole = [whole_tool(tool) for tool in tools or ()]
            if whole == list(tools or ()):
                raise
            text = render(whole)
        pieces = user_text.pieces(text)
        if sum(len(text) for text, _ in pieces) > MAX_CHARACTERS:
            raise PromptTooLong(TOO_MANY_CHARACTERS)
        return pieces

    def choose(self, wishes: Wishes) -> dict[str, Any]:
        """The variables to render with; a value that is stated counts more than the effort.

        UnknownVariable for a name that the template does not read. An effort that it has no word for changes nothing.
        """
        effort = wishes.effort
        for name in wishes.variables:
            if name not in self.variables:
                known = ", ".join(sorted(self.variables)) or "none"
                raise UnknownVariable(f"the chat template reads no variable {name[:64]!r}, its variables are: {known}.")
        if effort is not None and effort not in self._efforts:
            self._efforts[effort] = effort_variables(effort, self.variables, self._probe)
        return {**(self._efforts[effort] if effort is not None else {}), **wishes.variables}

    @cached_property
    def _dialect(self) -> Dialect:
        # some show calls only beside tools, and thinking only where it is switched on
        on = thinking_on(self.variables)
        try:
            self._render([_PROBE], [_TOOL], True, on)
            tools: list[Any] | None = [_TOOL]
        except CannotRender:
            tools = None
        return find_dialect(lambda messages: self._render(messages, tools, True, on))

    def _probe(self, variables: Mapping[str, Any]) -> str:
        return self._render([_PROBE], None, True, variables)

    def _mark(self, message: Mapping[str, Any], user_text: UserText) -> Any:
        """The message with marks; tags of thinking that the template looks for in an answer are no text of a user's."""
        marked = user_text.mark(message)
        content: Any = message.get("content")
        tags = thinking_tags(content) if message.get("role") == "assistant" and isinstance(content, str) else None
        if tags and self._dialect.reads_tags:
            marked["content"] = user_text.mark_around(content, {tags[0]: THINK, tags[1]: END_THINK})
        return marked

    def _render(self, messages: Any, tools: Any, add_generation_prompt: bool, variables: Mapping[str, Any]) -> str:
        parts: list[str] = []
        characters = 0
        known = {
            **self._tokens,
            "documents": None,
            **variables,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            known[STEP] = RenderMeter(known.values())
            for part in self._template.generate(known):
                parts.append(part)
                characters += len(part)
                if characters > 2 * MAX_CHARACTERS:  # twice: marks, which are removed, count here
                    raise PromptTooLong(TOO_MANY_CHARACTERS)
        except PromptTooLong:
            raise
        except RefusedError as error:
            raise CannotRender(f"the chat template refuses these messages: {error}") from None
        except Exception as error:  # the template is data: whatever it raises is its answer to these messages
            raise CannotRender(f"the chat template cannot render these messages ({error}): change them.") from error
        return "".join(parts)


def read_template(path: Path) -> str | None:
    """The source in a file, None if there is no file; MoedgeError if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MoedgeError(f"{path} is not UTF-8 ({error}): export the bundle again.") from None


def _is_special(message: Mapping[str, Any]) -> bool:
    """Whether templates differ in how they want this message."""
    return message.get("role") == "assistant" and bool(
        message.get("tool_calls") or thought_of(message) or END_THINK in message["content"]
    )
