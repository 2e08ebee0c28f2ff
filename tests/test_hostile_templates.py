"""Templates of a hostile bundle: nothing is executed, nothing is filled, and an error is one sentence."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.environment import MAX_SOURCE
from moedge.runtime.chat.meter import MAX_CHARACTERS, RenderMeter
from moedge.runtime.chat.template import ChatTemplate, read_template

MESSAGES = [{"role": "user", "content": "hi"}]
SECRET = "moedge-secret"
INSIDES = [  # ways to Python's insides; what they write must be nothing but text of the template
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['__builtins__'] }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages|attr('__cl' ~ 'ass__') }}",
    "{{ [messages]|map(attribute='__class__')|first }}",
    "{{ messages['__class__'] }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{m.__class__}'.format(m=messages) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ '%s'|format(raise_exception.__code__) }}",
    "{{ messages|map('attr', '__class__')|first }}",
    "{{ _moedge_step.spend.__func__.__globals__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ (messages|map('length')).gi_frame.f_globals }}",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "{{ loop.__init__ }}",
    "{% import 'os' as os %}{{ os.environ }}",
    "{% from 'os' import environ %}{{ environ }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/hostname' %}",
    "{{ get_flashed_messages.__globals__ }}{{ config }}{{ request }}",
]
BOMBS = [  # what would take gigabytes or hours
    "{{ 'a' * 10**9 }}",
    "{{ 9**9**9 }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}{{ '1'.zfill(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10**9) }}",
    "{{ 'a\nb'|indent(10**9) }}",
    "{{ ('a\n' * 1000)|indent('b' * 100000) }}",
    "{{ [1]|tojson(indent=10**9) }}",
    "{{ range(1000)|list|tojson(separators=('a' * 100000, 'b')) }}",
    "{{ ('a' * 1000000).join(range(1000)|map('string')) }}",
    "{{ ('a' * 1000).join('b' * 100000) }}",
    "{{ range(100000)|map(attribute='x', default='a' * 1000000)|join }}",
    "{{ ('%s' * 1000) % (('a' * 1000000,) * 1000) }}",
    "{{ '%(a)s' * 10000 % {'a': 'a' * 1000000} }}",
    "{{ ('{0}' * 10000).format('a' * 1000000) }}",
    "{{ '\t'.expandtabs(10**9) }}{{ 'a'.translate({97: 'b' * 1000000}) }}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = n.x.replace('a', 'aaaaaaaa') %}{% endfor %}",
    "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = n.x|replace('a', 'aaaaaaaa') %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "{% set x %}{% for i in range(90000) %}" + "a" * 10_000 + "{% endfor %}{% endset %}{{ x|length }}",
    "{% macro a(x) %}{{ x }}{{ x }}{% endmacro %}" + "{% set y = a(y or 'abcdefgh' * 1000) %}" * 30 + "{{ y|length }}",
    "{% for i in range(90000) %}{% set x = 'a' * 1000000 %}{% endfor %}",
    "{% set s = 'a' * 1000000 %}{% for i in range(90000) %}{% set x = s[::-1] %}{% endfor %}",
    "{% set s = 'a' * 1000000 %}{% set t = s ~ '' %}{% for i in range(90000) %}{{ 'x' if s == t }}{% endfor %}",
    "{% set s = 'a' * 1000000 %}{% for i in range(90000) %}{{ 'x' if 'b' in s or s is in ['b'] }}{% endfor %}",
    "{% for i in range(3000) %}{% set x = range(100000)|sort %}{% endfor %}",
    "{% for i in range(3000) %}{% set x = range(100000)|select('gt', 100000)|list %}{% endfor %}",
    "{% for i in range(3000) %}{% set x = range(100000)|map('string')|join %}{% endfor %}",
    "{{ ([range(1000)|list] * 1000)|sum(start=[]) }}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for a in [messages] recursive %}{{ loop([messages]) }}{% endfor %}",
    "{% for a in range(10) %}" * 15 + "x" + "{% endfor %}" * 15,
    "{% filter indent(10**9) %}a\nb{% endfilter %}",
    "{{ strftime_now('%c' * 100000) }}",
    "{% for i in range(3000) %}" + "x" * 1000 + "{% endfor %}",
]
BROKEN = [  # at once, when it is loaded
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "{% for a in range(10) %}" * 25 + "x" + "{% endfor %}" * 25,
    "{{ " + "1+" * 50_000 + "1 }}",
    "x" * (MAX_SOURCE + 1),
    "{% set _moedge_step = dict %}{% for i in range(9) %}{% endfor %}",
    "{% set _ｍoedge_step = dict %}",
    "{{ 'a'|wordwrap(1) }}",
    "{{ lipsum|pprint }}",
    "{% debug %}",
]


@pytest.mark.parametrize("source", INSIDES)
def test_nothing_of_python_is_reached(source, monkeypatch):
    monkeypatch.setenv("MOEDGE_SECRET", SECRET)
    try:
        text = ChatTemplate(source).render(MESSAGES)
    except MoedgeError as error:
        text = str(error).replace(source, "")
        assert "\n" not in text
    assert SECRET not in text
    assert "<class" not in text
    assert "<function" not in text
    assert "root:" not in text


TRY = """
import json, resource, signal, sys, time
from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.template import ChatTemplate
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for source in json.load(sys.stdin):
    signal.alarm(20)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        told = len(ChatTemplate(source).render([{"role": "user", "content": "hi"}]))
    except MoedgeError as error:
        told = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps([told, grown, time.process_time() - began]), flush=True)
"""


def test_what_multiplies_is_refused_before_it_is_made():
    """In a process of its own, which a gigabyte or 20 s would end; Jinja's compiler meets the bombs there too."""
    command = [sys.executable, "-c", TRY]
    done = subprocess.run(command, input=json.dumps(BOMBS), capture_output=True, text=True, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(BOMBS), (BOMBS[len(found)], done.stderr)
    for source, (told, grown, _) in zip(BOMBS, found, strict=True):
        assert isinstance(told, str), source
        assert "\n" not in told, source
        assert grown < 64, (source, grown)
    assert sum(seconds for *_, seconds in found) < 40  # half a second each where it is slow, and hours for a bomb


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_what_cannot_be_compiled_is_one_sentence(source):
    with pytest.raises(MoedgeError, match="the chat template is not valid Jinja"):
        ChatTemplate(source)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"{{ '\xff' }}")
    with pytest.raises(MoedgeError, match="is not UTF-8"):
        read_template(tmp_path / "chat_template.jinja")
    assert read_template(tmp_path / "none.jinja") is None


def test_long_conversations_are_rendered_however_often_they_are_copied():
    """A mebibyte of text that an honest template cuts, strips and joins a dozen times a message."""
    source = (
        "{% for m in messages[::-1] %}{% set c = m.content|trim %}{% set c = c.replace('x', 'x') %}"
        "{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}"
        "{% set d = c ~ '' %}{% if d.startswith('<') or d == 'y' %}!{% endif %}{{ d[:500] + d[500:] }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "abc def " * 256} for _ in range(500)]  # of two kibibytes each
    assert len(ChatTemplate(source).render(messages)) > 1_000_000 - 500


def test_a_meter_counts_values_in_values_each_time_that_they_stand_there():
    meter, value = RenderMeter(), ["a" * 1000]
    once = meter.weigh(value)
    assert meter.weigh([value, value]) > 2 * once
    assert meter.weigh("a" * MAX_CHARACTERS) == MAX_CHARACTERS


WORDS = st.sampled_from(["a", "b ", "\n", "x" * 50, "%", "{}", "ü"])


@settings(max_examples=25, derandomize=True, database=None)
@given(text=st.lists(WORDS, max_size=6).map("".join), number=st.integers(-3, 12))
def test_what_is_metered_means_what_jinja_means(text, number):
    """The same filters and operators in Jinja without any of our limits."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = (
        "{{ t ~ n ~ [t, n]|join('-') }}{{ t|replace('a', 'bb') }}{{ t.replace('b', 'c') }}{{ t * (n|abs) }}"
        "{{ '%s=%5d' % (t, n) }}{{ '{:>9}|{}'.format(n, t) }}{{ t|indent(2) }}{{ t[1:] + t[:1] }}{{ (t, n)|list }}"
        "{{ [t, 'a']|sort|map('upper')|select('ne', 'A')|join(',') }}{{ t in [t] and n < 5 }}"
        "{{ {'a': t}.items()|list }}{{ ', '.join([t, 'q']) }}{{ t|trim|length }}{{ [1, 2, n]|sum }}"
        "{{ t|title|default('x') }}{{ n // 2 }}{{ n % 5 }}"
    )
    expected = (
        ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source).render(t=text, n=number)
    )
    assert ChatTemplate(source).render([], variables={"t": text, "n": number}) == expected
