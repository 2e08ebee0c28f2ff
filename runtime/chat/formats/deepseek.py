"""DeepSeek's answers. V3, V2.5 and R1: a call names its type, then itself, then fences its arguments as JSON.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME
    ```json
    {...}
    ```<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>

The models write the fence in other ways too, or none: arguments begin behind its line or at their first bracket.
V3.1 dropped the type and the fence: `NAME<｜tool▁sep｜>{...}`. The bars are U+FF5C, the underscores U+2581.
"""

from moedge.runtime.chat.grammar import THINK, At, Grammar, WrittenCall, thinking_steps

SECTION, END_SECTION = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, END_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
FENCE = "\n```"
CALLS = {SECTION: At.SECTION, CALL: At.HEADER}
SECTION_STEPS = {CALL: At.HEADER, END_CALL: At.SECTION, END_SECTION: At.AFTER}
OPENINGS, BRACKETS = ("```json\n", "```\n"), ("{", "[")
_CLOSINGS = (FENCE, "```", f"{FENCE}\n", "```\n", "\n", "")


def _read_fenced(text: str) -> WrittenCall | None:
    """`function<｜tool▁sep｜>NAME`, and what stands below it in no bracket, without what is left of a fence."""
    kind, _, rest = text.partition(SEPARATOR)
    name, fence, below = rest.strip().partition("```")
    if fence:
        below = below.removeprefix("json")
    else:
        name, _, below = name.partition("\n")
    if kind.strip() != "function" or not name.strip():
        return None
    return WrittenCall(name.strip(), below.strip().removesuffix("```").strip())


def _read_name(text: str) -> WrittenCall | None:
    return WrittenCall(text.strip()) if text.strip() else None


DEEPSEEK_V3 = Grammar(
    steps={
        **thinking_steps(CALLS),
        At.SECTION: SECTION_STEPS,
        At.HEADER: {**dict.fromkeys((*OPENINGS, *BRACKETS), At.ARGUMENTS), **SECTION_STEPS},
        At.ARGUMENTS: {f"{closing}{end}": at for closing in _CLOSINGS for end, at in SECTION_STEPS.items()},
    },
    think=THINK,
    ends=(END_OF_SENTENCE,),
    kept=frozenset(BRACKETS),
    header=_read_fenced,
    fence=FENCE,
)

DEEPSEEK_V3_1 = Grammar(
    steps={
        **thinking_steps(CALLS),
        At.SECTION: SECTION_STEPS,
        At.HEADER: {SEPARATOR: At.ARGUMENTS, **SECTION_STEPS},
        At.ARGUMENTS: SECTION_STEPS,
    },
    think=THINK,
    ends=(END_OF_SENTENCE,),
    header=_read_name,
)
