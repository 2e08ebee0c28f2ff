"""Calls within an open thought: they end it, unless it is closed later; then all of it was thinking."""

import pytest
from chat_reading import read, thinking_tags_of
from test_chat_markers import FORMATS, call, without_ids

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning
from moedge.runtime.chat.formats import GRAMMARS, chat_parser

THINKING = [chat_format for chat_format in FORMATS if GRAMMARS[chat_format].think]
SAVED = ("save", '{"text": "a"}')


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("chat_format", THINKING)
def test_a_call_in_a_thought(chat_format, prompted):
    begin, end = thinking_tags_of(chat_format)
    prompt_end, begin = (begin, "") if prompted else ("", begin)
    made = call(chat_format, "a")
    cases = {
        f"{begin}so {made}": ("so ", "", [SAVED]),
        f"{begin}so {made}{made}": ("so ", "", [SAVED, SAVED]),
        f"{begin}so {made} hm{end}Hi": (f"so {made} hm", "Hi", []),
        f"{begin}so {made}{made}{end}{made}": (f"so {made}{made}", "", [SAVED]),
        f"{begin}so {made[:-1]}x": None,  # whatever it is, cuts do not change it
        f"{begin}{made}{end}": (made, "", []),
        f"{begin}so {call(chat_format, f'a{end}b')}": ("so ", "", [("save", f'{{"text": "a{end}b"}}')]),
    }
    for text, expected in cases.items():
        whole = without_ids(read([text], chat_format, prompt_end))
        assert whole == (expected or whole)
        assert without_ids(read(list(text), chat_format, prompt_end)) == whole
        for cut in range(0, len(text), 3):
            assert without_ids(read([text[:cut], text[cut:]], chat_format, prompt_end)) == whole


def test_newlines_beside_the_tag_are_layout_behind_a_call_too():
    text = f"<think>\nso {call('hermes', 'a')}\n</think>\n\nHi"
    assert read([text], "hermes") == (f"so {call('hermes', 'a')}", "Hi", [])


def test_thinking_streams_up_to_the_call_and_the_call_comes_at_the_end():
    parser = chat_parser("hermes", "<think>")
    assert parser.push(f"so {call('hermes', 'a')}") == [Reasoning("so ")]
    assert parser.push(" and") == []
    start, arguments, *content = parser.finish()
    assert (start, arguments) == (CallStart(0, start.id, "save"), CallArguments(0, '{"text": "a"}'))
    assert content == [Content(" "), Content("and")]


def test_in_gpt_oss_a_call_is_a_message_of_its_own():
    text = f"<|channel|>analysis<|message|>so<|start|>assistant{call('gpt_oss', 'a')}"
    assert without_ids(read(list(text), "gpt_oss")) == ("so", "", [SAVED])
