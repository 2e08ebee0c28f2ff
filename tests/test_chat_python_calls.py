"""LFM2's calls in Python's syntax, and nearly so: what its models are known to write, and what stays text."""

import time

import pytest
from chat_reading import check, read_named

from moedge.runtime.chat.formats.lfm2 import lfm2_calls


def lfm2(calls: str) -> str:
    return f"<|tool_call_start|>{calls}<|tool_call_end|>"


# what stands between the brackets of one call of `f`, and its arguments as JSON
PYTHON = {
    "all kinds of values": (
        "a='x', b=37, c={'k': 'v', 'l': None}, d=None, e=True, g=['p', 'q'], h={}, i=[]",
        '{"a": "x", "b": 37, "c": {"k": "v", "l": null}, "d": null, "e": true, "g": ["p", "q"], "h": {}, "i": []}',
    ),
    "as JSON": ('a={"b": true, "c": [null, false]}', '{"a": {"b": true, "c": [null, false]}}'),
    "a set": ("a={'urgent', 'bug'}", '{"a": ["urgent", "bug"]}'),
    "tuples": ("a=(1, 2), b=(3,), c=('x'), d=()", '{"a": [1, 2], "b": [3], "c": "x", "d": []}'),
    "numbers": (
        "a=-1, b=+2, c=1e5, d=.5, e=2., g=1_000, h=0x1F, i=-1.5e-3",
        '{"a": -1, "b": 2, "c": 100000.0, "d": 0.5, "e": 2.0, "g": 1000, "h": 31, "i": -0.0015}',
    ),
    "leading zeros": ("a=07, b=-007, c=00, d=[08, 010], e=05.5", '{"a": 7, "b": -7, "c": 0, "d": [8, 10], "e": 5.5}'),
    "names that Python keeps to itself": (
        "from='a', class=1, in=[1], lambda=True, None=2",
        '{"from": "a", "class": 1, "in": [1], "lambda": true, "None": 2}',
    ),
    "a name with a dash": ("user-id=5", '{"user-id": 5}'),
    "a name beyond ASCII": ("straße='é'", '{"straße": "é"}'),
    "triple quotes": ('a=\'\'\'it\'s\n"x"\'\'\', b="""y"""', '{"a": "it\'s\\n\\"x\\"", "b": "y"}'),
    "strings side by side": ("a='x' \"y\"\n 'z'", '{"a": "xyz"}'),
    "a raw string": (r"a=r'\d\'', b=u'x'", r'{"a": "\\d\\' + "'" + '", "b": "x"}'),
    "escapes": (r"a='\x41\u00e9\U0001F600\N{BULLET}\101\a'", '{"a": "Aé😀•A\\u0007"}'),
    "a pair of surrogates": (r"a='\ud83d\ude00'", '{"a": "😀"}'),
    "escapes that are none": (r"a='\d\,\x4\u12\N{no such}\/'", r'{"a": "\\d\\,\\x4\\u12\\N{no such}\\/"}'),
    "control characters": ("a='x\0y\x1b\r\nz\t'", r'{"a": "x\u0000y\u001b\r\nz\t"}'),
    "brackets and commas in a string": ("a='f(x)], [g(', b=\"{'\"", '{"a": "f(x)], [g(", "b": "{\'"}'),
    "a comment's sign in a string": ("a='# no'", '{"a": "# no"}'),
    "commas at the ends": ("a=[1,], b={'c': 2,}, d=(3,),", '{"a": [1], "b": {"c": 2}, "d": [3]}'),
    "lines": ("\n  a=1,\n  b=2\n", '{"a": 1, "b": 2}'),
}
QUOTES = {
    "a pair": ("a='sed -n '3,4p' /a/b.py'", "sed -n '3,4p' /a/b.py"),
    "a pair of the other kind": ('a="say "hello" twice"', 'say "hello" twice'),
    "a pair at the end": ("a='git commit -m 'fix''", "git commit -m 'fix'"),
    "a pair at the start": ("a=''x' is a letter'", "'x' is a letter"),
    "a pair with a call in it": ("a='print('a')'", "print('a')"),
    "a pair before a comma": ("a='he said 'yes', then left'", "he said 'yes', then left"),
    "a pair that looks like an end": ("a='f(x='1', y='2')'", "f(x='1', y='2')"),
    "pairs in brackets": ("a='grep -E '[a-z]' | awk '{print $1}''", "grep -E '[a-z]' | awk '{print $1}'"),
    "within the other kind": (
        "a='python3 -c \"print(latex(x, symbol='\\,'))\"'",
        "python3 -c \"print(latex(x, symbol='\\,'))\"",
    ),
    "lines": ("a='cat <<'END'\n$x\nEND\n'", "cat <<'END'\n$x\nEND\n"),
    "an apostrophe": ("a='it's fine'", "it's fine"),
    "apostrophes": ("a='it's Jane's'", "it's Jane's"),
    "a plural": ("a='the dogs' bones'", "the dogs' bones"),
    "an apostrophe in a pair": ("a='say 'it's' now'", "say 'it's' now"),
    "an apostrophe at the start": ("a=''tis so'", "'tis so"),
    "a pair without its end": ("a='an 'open one'", "an 'open one"),
    "escaped ones too": (r"a='it\'s 'x' y'", "it's 'x' y"),
    "escapes": (r"a='x\n'y'\d'", "x\n'y'\\d"),
}
BETWEEN = {  # strings with their own quotes between other values
    "arguments": (
        "[f(a='it's', b='x', c='say 'y'', d=07)]",
        [("f", '{"a": "it\'s", "b": "x", "c": "say \'y\'", "d": 7}')],
    ),
    "an empty string": ("[f(a='it's', b='')]", [("f", '{"a": "it\'s", "b": ""}')]),
    "lists and dicts": (
        "[f(a=['it's', 'x'], b={'k': 'it's', 'l': ('y',)})]",
        [("f", '{"a": ["it\'s", "x"], "b": {"k": "it\'s", "l": ["y"]}}')],
    ),
    "keys": ("[f(a={'it's': 1})]", [("f", '{"a": {"it\'s": 1}}')]),
    "calls": ("[f(a='it's'), g.h-i(b='x')]", [("f", '{"a": "it\'s"}'), ("g.h-i", '{"b": "x"}')]),
    "three quotes": ("[f(a='it's', b='''x's''')]", [("f", '{"a": "it\'s", "b": "x\'s"}')]),
    "no list": ("f(a='it's')", [("f", '{"a": "it\'s"}')]),
}
NO_CALLS = {
    "a value alone": "[f('x')]",
    "a value without a name beside others": "[f(a=1, 2)]",
    "a call as a value": "[f(a=g(b=1))]",
    "a sum": "[f(a=1+2)]",
    "a sum of strings": "[f(a='x' + 'y')]",
    "a sum of strings with quotes that might end them": "[f(a='x' + 'y', b='z' % 'u')]",
    "a comparison": "[f(a==1)]",
    "a formatted string": "[f(a=f'{x}')]",
    "bytes beside a good call": "[f(a=1), g(b=b'x')]",
    "keys that are no text": "[f(a={1: 2})]",
    "keys for some": "[f(a={'b': 1, 'c'})]",
    "a complex number": "[f(a=1j)]",
    "not a number": "[f(a=nan)]",
    "a number and letters": "[f(a=12abc)]",
    "a value missing": "[f(a=, b=1)]",
    "a comma missing": "[f(a=1 b=2)]",
    "a bracket missing": "[f(a=1)",
    "a string without an end": "[f(a='x)]",
    "two strings or one": "[f(a='x'y)]",
    "half a pair of surrogates": r"[f(a='\ud83d')]",
    "an empty call": "[()]",
    "no calls but values": "['f']",
}


@pytest.mark.parametrize(("written", "arguments"), PYTHON.values(), ids=PYTHON)
def test_python_is_read_as_python_has_it(written, arguments):
    check(lfm2(f"[f({written})]"), ("", "", [("f", arguments)]), "lfm2")


@pytest.mark.parametrize(("written", "value"), QUOTES.values(), ids=QUOTES)
def test_a_string_may_hold_quotes_of_its_own_kind(written, value):
    (call,), rest = lfm2_calls(f"[f({written})]")
    assert (call.name, call.arguments, rest) == ("f", f'{{"a": {json_text(value)}}}', "")


@pytest.mark.parametrize(("written", "calls"), BETWEEN.values(), ids=BETWEEN)
def test_so_may_strings_among_other_values(written, calls):
    check(lfm2(written), ("", "", calls), "lfm2")


@pytest.mark.parametrize("written", NO_CALLS.values(), ids=NO_CALLS)
def test_what_is_no_call_stays_text(written):
    check(lfm2(written), ("", lfm2(written), []), "lfm2")


@pytest.mark.parametrize("written", ["[f(a=1)]]", "[f(a=1)] so", "f(a=1) so", "f(a=1), g()"])
def test_the_text_of_a_call_holds_nothing_else(written):
    assert lfm2_calls(written) is None


@pytest.mark.parametrize("block", ["[]", " [ ] ", "[\n]"])
def test_a_block_that_calls_nothing_is_neither_call_nor_text(block):
    check(f"So.{lfm2(block)}ok", ("", "So.ok", []), "lfm2")


def test_blanks_may_stand_around_the_list():
    check(lfm2(" [ f ( a = 1 ) , g () ]\n"), ("", "", [("f", '{"a": 1}'), ("g", "{}")]), "lfm2")


def test_python_as_it_should_be_is_never_read_in_another_way():
    """Strings side by side are one in Python, though a quote within a string would do as well."""
    assert read_named([lfm2("[f(a='x' 'y', b='z')]")], "lfm2")[2] == [("f", '{"a": "xy", "b": "z"}')]


@pytest.mark.parametrize(
    "unit",
    ["'", "it's ", "' ", "', ", "', a=", "')]", "')   ", "\\'", "\\N{", "'a' ", "'''", "f(a=1),", "[", "(", "{", "a"],
)
@pytest.mark.parametrize("start", ["[", "[f(a='", "[f(a="])
def test_200_kb_that_are_hard_to_read_are_read_in_time(unit, start):
    began = time.process_time()
    lfm2_calls(start + unit * (200_000 // len(unit)) + "')]")
    assert time.process_time() - began < 5  # reading them anew at every quote would take minutes


def json_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
