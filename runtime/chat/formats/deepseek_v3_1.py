"""DeepSeek V3.1's answers: as V3's (chat_deepseek_v3.py), but a call is `NAME<｜tool▁sep｜>{...}`, without a fence."""

from moedge.runtime.chat.formats.deepseek_v3 import CALLS, END_OF_SENTENCE, SECTION_STEPS, SEPARATOR
from moedge.runtime.chat.grammar import THINK, At, Grammar, WrittenCall, thinking_steps


def _header(text: str) -> WrittenCall | None:
    return WrittenCall(text.strip()) if text.strip() else None


DEEPSEEK_V3_1 = Grammar(
    steps={
        **thinking_steps(CALLS),
        At.SECTION: SECTION_STEPS,
        At.HEADER: {SEPARATOR: At.ARGUMENTS, **SECTION_STEPS},
        At.ARGUMENTS: SECTION_STEPS,
    },
    think=THINK,
    ends=(END_OF_SENTENCE,),
    header=_header,
)
