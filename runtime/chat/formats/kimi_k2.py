"""Kimi K2's answers: `<think>` first if at all, content, and sections of tool calls named `functions.NAME:INDEX`.

A section inside open thinking ends the thinking, and a new call, the end of its section or of the answer ends an open
call, as this model does write both. A call's id is the text that the model wrote, because its template shows that id
again in later turns. Blanks before `<think>` and between the calls of a section are layout and dropped.
"""

from moedge.runtime.chat.grammar import END_THINK, THINK, At, Grammar, WrittenCall

SECTION, END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, END_CALL = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"


def _header(text: str) -> WrittenCall | None:
    identifier = text.strip()
    written = identifier.removeprefix("functions.")
    name, colon, index = written.rpartition(":")
    if not (colon and index.isdecimal()):
        name = written
    return WrittenCall(name, id=identifier) if name else None


KIMI_K2 = Grammar(
    steps={
        At.START: {THINK: At.THINKING, SECTION: At.SECTION},
        At.THINKING: {END_THINK: At.CONTENT, SECTION: At.SECTION},
        At.CONTENT: {SECTION: At.SECTION},
        At.SECTION: {CALL: At.HEADER, END_CALL: At.SECTION, END_SECTION: At.CONTENT},
        At.HEADER: {ARGUMENTS: At.ARGUMENTS, END_CALL: At.SECTION, CALL: At.HEADER, END_SECTION: At.CONTENT},
        At.ARGUMENTS: {END_CALL: At.SECTION, CALL: At.HEADER, END_SECTION: At.CONTENT},
    },
    think=THINK,
    ends=("<|im_end|>",),
    header=_header,
)
