"""The tags around an answer's thinking, and what to append so that it ends and the answer begins."""

from dataclasses import dataclass

from moedge.runtime.chat.formats import GRAMMARS, opens_thought, thoughts_of
from moedge.runtime.chat.formats.gpt_oss import ANALYSIS

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
    opened = opens_thought(chat_format, prompt_end)
    if chat_format == HARMONY:
        begin = "<|end|><|start|>assistant<|channel|>"
        final, call = f"{begin}final<|message|>", f"{begin}commentary to=functions."
        return ThoughtTags(ANALYSIS, "<|end|>", opened, final, call)
    tags = thoughts_of(chat_format)
    if tags is None:
        return None
    on_lines = tags.newlines and f"\n{tags.closing}" in GRAMMARS[chat_format].thought_ends
    cut = f"\n{tags.closing}\n\n" if on_lines else tags.closing
    return ThoughtTags(tags.opening, tags.closing, opened, cut, cut)
