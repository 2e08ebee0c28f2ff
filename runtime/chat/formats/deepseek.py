"""DeepSeek's answers. V3, V2.5 and R1: a call names its type, then itself, then fences its arguments as JSON.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME
    ```json
    {...}
    ```<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>

The models write the fence in other ways too, or none: arguments begin behind its line, at their first bracket or on
the line below the name. V3.1 dropped the type and the fence: `NAME<｜tool▁sep｜>{...}`. The bars are U+FF5C, the
underscores U+2581.
"""

from moedge.runtime.chat.grammar import THINK, At, BodyForm, Grammar, HeaderForm, WrittenCall, thinking_steps
from moedge.runtime.chat.opening import (
    BLANKS,
    END_OF_TEXT,
    NAME_LETTERS,
    SPACES,
    Pattern,
    ahead,
    alt,
    group,
    lit,
    maybe,
    run,
    seq,
)  # fmt: skip
from moedge.runtime.chat.scans import HeaderScan

SECTION, END_SECTION = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, END_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
FENCE = "\n```"
_CLOSINGS = (FENCE, "```", f"{FENCE}\n", "```\n", "\n", "")

_OPENING = seq(maybe(seq(lit(SECTION), BLANKS)), lit(CALL), BLANKS)
_BRACKET = Pattern(r"[{\[]", "")
_NAME, _BARE = run(NAME_LETTERS, "name"), group("bare", lit(END_CALL))
_FENCE_LINE = seq(lit("```"), maybe(lit("json")), SPACES, alt(lit("\n"), ahead(_BRACKET)))
_FENCED = seq(
    _OPENING, lit("function"), BLANKS, lit(SEPARATOR), BLANKS, _NAME,
    alt(
        seq(BLANKS, alt(_BARE, _FENCE_LINE, ahead(_BRACKET))),
        seq(SPACES, lit("\n"), BLANKS, ahead(Pattern(r"[^\s`<]", ""))),
    ),
)  # fmt: skip
_NAMED = seq(_OPENING, _NAME, BLANKS, alt(lit(SEPARATOR), _BARE))


def _empty(pattern: Pattern) -> BodyForm:
    """Text that means nothing."""
    return BodyForm(lambda: HeaderScan(pattern), lambda text: ([], ""), whole=True)


def _grammar(header: Pattern, fences: dict[str, BodyForm]) -> Grammar:
    form = HeaderForm(header, lambda found: WrittenCall(found["name"]))
    calls = {CALL: (form,), SECTION: (form, _empty(seq(lit(SECTION), BLANKS, lit(END_SECTION))))}
    ends = {END_CALL: At.INSIDE, END_SECTION: At.AFTER}
    closings = _CLOSINGS if fences else ("",)
    closed = {f"{closing}{end}": at for closing in closings for end, at in ends.items()}
    return Grammar(
        steps={
            **thinking_steps(calls),
            At.ARGUMENTS: {**closed, **calls},
            At.INSIDE: {**{fence: (form,) for fence, form in fences.items()}, **ends, **calls},
            At.LOOSE: {**closed, **calls},
            At.REFUSED: {END_SECTION: At.AFTER, **calls},
        },
        think=THINK,
        ends=(END_OF_SENTENCE,),
        refused=At.REFUSED,
        fence=FENCE if fences else "",
    )


_BEHIND_FENCE = alt(lit("\n"), *(ahead(lit(marker)) for marker in (END_CALL, END_SECTION, CALL)), END_OF_TEXT)
DEEPSEEK_V3 = _grammar(_FENCED, {"```": _empty(seq(lit("```"), SPACES, _BEHIND_FENCE))})
DEEPSEEK_V3_1 = _grammar(_NAMED, {})
