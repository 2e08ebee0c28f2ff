"""The tags around an answer's thinking, and what to append so that it ends and the answer begins."""

from dataclasses import dataclass

from moedge.runtime.chat.formats import GRAMMARS
from moedge.runtime.chat.grammar import At

HARMONY = "gpt_oss"  # whose messages have headers instead of tags


@dataclass(frozen=True)
class ThoughtTags:
    """`opened`: by the prompt. `cut` is the text that ends thinking in its middle, as the templates write it.

    `cut_to_call` is the same where a call must follow.
    """

    opening: str
    closing: str
    opened: bool
    cut: str
    cut_to_call: str


def thought_tags(chat_format: str, prompt_end: str) -> ThoughtTags | None:
    """Those of an answer to a prompt that ends so; None in formats that do not think."""
    if chat_format == HARMONY:
        opening = "<|channel|>analysis<|message|>"
        begin = "<|end|><|start|>assistant<|channel|>"
        final, call = f"{begin}final<|message|>", f"{begin}commentary to=functions."
        return ThoughtTags(opening, "<|end|>", prompt_end.endswith(opening), final, call)
    grammar = GRAMMARS[chat_format]
    if not grammar.think or At.THINKING not in grammar.steps:
        return None
    closing = min(grammar.thought_ends, key=len)
    on_lines = f"\n{closing}" in grammar.thought_ends and grammar.steps[At.THINKING][closing] is At.AFTER
    opened = grammar.begin(prompt_end) is not At.START
    cut = f"\n{closing}\n\n" if on_lines else closing
    return ThoughtTags(grammar.think, closing, opened, cut, cut)
