"""Gemma 4's answers: thinking in a channel, calls with bare keys and marked texts. Whole, cut anywhere, and broken."""

import time

import pytest
from chat_reading import check, read_named
from made_templates import MADE
from test_chat_families import call

from moedge.runtime.chat.delimited import DelimitedScan, read_delimited
from moedge.runtime.chat.delta import Reasoning
from moedge.runtime.chat.formats import chat_parser
from moedge.runtime.chat.formats.gemma import gemma4_calls
from moedge.runtime.chat.scans import NO
from moedge.runtime.chat.template import ChatTemplate

Q = '<|"|>'


def made(arguments: str, name: str = "f") -> str:
    return f"<|tool_call>call:{name}{{{arguments}}}<tool_call|>"


# what stands between the braces, and its JSON
ARGUMENTS = {
    "none": ("", "{}"),
    "text": (f"a:{Q}Oslo{Q}", '{"a": "Oslo"}'),
    "empty text": (f"a:{Q}{Q}", '{"a": ""}'),
    "text that spells other values": (f"a:{Q}12{Q},b:{Q}true{Q}", '{"a": "12", "b": "true"}'),
    "quotes, brackets and lines in a text": (f'a:{Q}"x", {{y}}:\n[z]{Q}', '{"a": "\\"x\\", {y}:\\n[z]"}'),
    "a backslash is text": (rf"a:{Q}C:\new\"{Q}", '{"a": "C:\\\\new\\\\\\""}'),
    "markers in a text": (f"a:{Q}<|tool_call>call:g{{}}<tool_call|>{Q}", '{"a": "<|tool_call>call:g{}<tool_call|>"}'),
    "half a delimiter in a text": (f'a:{Q}<|"{Q}', '{"a": "<|\\""}'),
    "numbers": ("a:1,b:-2.5,c:1e3", '{"a": 1, "b": -2.5, "c": 1000.0}'),
    "words": ("a:true,b:false,c:null,d:none,e:None", '{"a": true, "b": false, "c": null, "d": null, "e": null}'),
    "list": (f"a:[1,{Q}x{Q},true,[],{{}}]", '{"a": [1, "x", true, [], {}]}'),
    "object": (f"a:{{b:{{c:[{{d:{Q}x{Q}}}]}}}}", '{"a": {"b": {"c": [{"d": "x"}]}}}'),
    "a key twice, within": ("a:{b:1,b:2}", '{"a": {"b": 2}}'),
    "keys with quotes": (f'{Q}a{Q}:1,"b":2', '{"a": 1, "b": 2}'),
    "keys of any letters": ("größe-x.y z:1", '{"größe-x.y z": 1}'),
    "texts as JSON has them": (r'a:"x\"y\n"', r'{"a": "x\"y\n"}'),
    "texts without quotes": ("a:Oslo by,b:007,c:2026-01-01", '{"a": "Oslo by", "b": "007", "c": "2026-01-01"}'),
    "a text as Python has it": ("a:'Oslo by',b:it's", '{"a": "Oslo by", "b": "it\'s"}'),
    "blanks": (f" a : 1 ,\n b : [ {Q}x{Q} , 2 ] ", '{"a": 1, "b": ["x", 2]}'),
    "a comma too many": ("a:[1,],", '{"a": [1]}'),
    "what JSON has no number for": ("a:NaN,b:1e999", '{"a": "NaN", "b": "1e999"}'),
}
NO_CALL = {
    "unclosed text": f"<|tool_call>call:f{{a:{Q}x}}<tool_call|>",
    "cut off in a text": f"<|tool_call>call:f{{a:{Q}x",
    "cut off in a delimiter": '<|tool_call>call:f{a:<|"',
    "cut off in a word": "<|tool_call>call:f{a:1",
    "cut off in the name": "<|tool_call>call:f",
    "cut off in the marker": "<|tool_ca",
    "brace missing": "<|tool_call>call:f{a:{b:1}<tool_call|>",
    "wrong bracket": made("a:[1}"),
    "colon missing": made("a"),
    "value missing": made("a:"),
    "key missing": made(":1"),
    "comma missing": made(f"a:1 b:{Q}x{Q}"),
    "only a comma": made(","),
    "text beside a text": made(f"a:{Q}x{Q}y"),
    "a key twice": made("a:1,a:2"),
    "no name": "<|tool_call>call:{a:1}<tool_call|>",
    "no call": "<|tool_call>f{a:1}<tool_call|>",
    "no object": "<|tool_call>call:f[1]<tool_call|>",
    "in prose": "The marker <|tool_call> begins, <tool_call|> ends.",
    "deep": made("a:" + "[" * 70 + "]" * 70),
}
F, G = ("f", '{"a": 1}'), ("g", "{}")
ANSWERS = {
    "thinking": ("<|channel>thought\nhm\n<channel|>So.", ("hm", "So.", [])),
    "an empty thought": ("<|channel>thought\n<channel|>So.", ("", "So.", [])),
    "no line behind the name": ("<|channel>thought<channel|>So.", ("", "So.", [])),
    "a thought without a name": ("<|channel>thoughtful<channel|>So.", ("thoughtful", "So.", [])),
    "the name alone": ("<|channel>thought", ("", "", [])),
    "cut off": ("<|channel>thought\nhm", ("hm", "", [])),
    "its name in a thought": ("<|channel>thought\nthought <|channel>\n<channel|>", ("thought <|channel>", "", [])),
    "all at once": (
        f"<|channel>thought\nhm\n<channel|>So.{made('a:1')}{made('', 'g')}<|tool_response>",
        ("hm", "So.", [F, G]),
    ),
    "ends forgotten": ("<|tool_call>call:f{a:1}<|tool_call>call:g{}", ("", "", [F, G])),
    "several within one pair": ("<|tool_call>call:f{a:1}call:g{}<tool_call|>", ("", "", [F, G])),
    "prose behind a call": ("<|tool_call>call:f{a:1}<tool_call|>\nSo, call: me.", ("", "So, call: me.", [F])),
    "prose behind a call without its end": ("<|tool_call>call:f{a:1} call: me", ("", " call: me", [F])),
    "behind a broken call": (f"<|tool_call>call:f{{a:{Q}{made('', 'g')}", ("", f"<|tool_call>call:f{{a:{Q}", [G])),
    "dots and dashes": (made("", "v1.get-it"), ("", "", [("v1.get-it", "{}")])),
    "call in a thought": (f"<|channel>thought\nhm{made('a:1')}", ("hm", "", [F])),
    "a thought about a call": (f"<|channel>thought\n{made('a:1')}\n<channel|>So.", (made("a:1"), "So.", [])),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "read"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_read_as_json(arguments, read):
    check(f"So.{made(arguments)}", ("", "So.", [("f", read)]), "gemma4")


@pytest.mark.parametrize("text", NO_CALL.values(), ids=NO_CALL)
def test_what_is_no_call_stays_text(text):
    check(text, ("", text, []), "gemma4")


@pytest.mark.parametrize(("text", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_answers(text, expected):
    check(text, expected, "gemma4")


def test_the_prompt_opens_a_thought_behind_a_result():
    template = ChatTemplate(MADE["Gemma 4"].source)
    answer = {"role": "assistant", "content": "", "tool_calls": [call("c", {"n": 1})], "reasoning_content": "hm"}
    result = {"role": "tool", "tool_call_id": "c", "content": "r"}
    messages = [{"role": "user", "content": "u"}, answer, result]
    prompt = template.render(messages, variables={"enable_thinking": True})
    assert prompt.endswith(f"response:save{{value:{Q}r{Q}}}<tool_response|><|channel>thought\n")
    check("hm\n<channel|>So.", ("hm", "So.", []), "gemma4", prompt[-60:])
    # switched off it neither opens one, nor begins another turn
    assert template.render(messages).endswith("<tool_response|>")


def test_blanks_beside_a_call_are_no_text_of_its_turn():
    template = ChatTemplate(MADE["Gemma 4"].source)
    answer = {"role": "assistant", "tool_calls": [call("c", {})], "reasoning_content": "hm"}
    shown = {template.render([{"role": "user", "content": "u"}, {**answer, "content": said}]) for said in ("", "\n\n")}
    assert len(shown) == 1


def test_thinking_streams_as_it_comes():
    parser = chat_parser("gemma4")
    assert parser.push("<|channel>") + parser.push("thought") + parser.push("\n") == []
    assert parser.push("It is") == [Reasoning("It is")]


@pytest.mark.parametrize("name", ["Gemma 4", "Gemma 4, first"])
def test_results_stand_in_the_turn_that_called_and_the_answer_goes_on_there(name):
    template = ChatTemplate(MADE[name].source)
    answer = {"role": "assistant", "content": None, "tool_calls": [call("c0", {}), call("c1", {"n": 1})]}
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"r{n}"} for n in (0, 1)]
    shown = template.render(
        [{"role": "user", "content": "u"}, answer, *results, {"role": "assistant", "content": "So."}]
    )
    said = [f"<|tool_response>response:save{{value:{Q}r{n}{Q}}}<tool_response|>" for n in (0, 1)]
    called = "<|tool_call>call:save{}<tool_call|><|tool_call>call:save{n:1}<tool_call|>"
    assert f"<|turn>model\n{called}{''.join(said)}So.<turn|>\n" in shown


@pytest.mark.parametrize("unit", ["{a:", "[", f"a:{Q}", f"{Q}", "a", " ", ",", "{}", '"', '\\"', "<", "<|"])
def test_400_kb_of_an_object_are_read_in_time(unit):
    began = time.process_time()
    text = "{a:" + unit * (400_000 // len(unit))
    scan = DelimitedScan()
    for at in range(0, len(text), 7):
        if scan.feed(text[at : at + 7], 0, False) is not None:
            break
    read_named(["<|tool_call>call:f", text], "gemma4")
    assert time.process_time() - began < 4


@pytest.mark.parametrize("text", ["", "a", "{", "{a", "{a:1", "[1]", f"{{a:{Q}x}}", "{a:1]", "{a b}", '{"a}', "{a:}"])
def test_no_object_is_an_error_for_the_reader_and_no_for_the_scan(text):
    with pytest.raises(ValueError, match=r"."):
        read_delimited(text, 0)
    assert DelimitedScan().feed(text, 0, True) == NO


def test_what_utf_8_cannot_hold_is_no_call():
    assert gemma4_calls("call:f\ud800{}") is None
    assert gemma4_calls(f"call:f{{a:{Q}\ud800{Q}}}") is None
