"""Earlier answers in templates of several dialects: thinking, ids of calls, several calls, all found out by probing.

The templates are our own and small; each has a trait of a published one.
"""

import re

import pytest

from moedge.runtime.chat.template import ChatTemplate

TAGS = ("<think>", "</think>", "<|im_end|>")
# gpt-oss: one call a message, whose name the result takes; either thinking or content beside it
HARMONY = """
{%- set last = namespace(name=none) %}
{%- for m in messages %}
    {%- if m.role == 'assistant' and 'tool_calls' in m %}
        {%- if m.content and m.thinking %}{{ raise_exception('content or thinking, not both') }}{% endif %}
        {%- if m.content or m.thinking %}{{ '<analysis>' + (m.content or m.thinking) }}{% endif %}
        {%- set call = m.tool_calls[0].function %}
        {%- set last.name = call.name %}
        {{- '<call ' + call.name + '>' + call.arguments | tojson }}
    {%- elif m.role == 'tool' %}
        {{- '<from ' + last.name + '>' + m.content }}
    {%- else %}
        {{- '<' + m.role + '>' + m.content }}
    {%- endif %}
{%- endfor %}"""
# LFM2.5: thinking of the present turn, cut out of the content of earlier ones
LIQUID = """
{%- set ns = namespace(user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {{- m.role + ':' }}
    {%- if m.thinking is defined and loop.index0 > ns.user %}{{ '<think>' + m.thinking + '</think>' }}{% endif %}
    {%- set said = m.content %}
    {%- if m.role == 'assistant' and loop.index0 <= ns.user and '</think>' in said %}
        {%- set said = said.split('</think>')[-1] | trim %}
    {%- endif %}
    {{- said }}
    {%- for c in m.tool_calls or [] %}{{ c.function.name + '(' + c.function.arguments.items() | list | string + ')' }}
    {%- endfor %}
    {{- '<|im_end|>' }}
{%- endfor %}"""
# Qwen3: the same under reasoning_content, with newlines
QWEN = """
{%- set ns = namespace(user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {%- set said, thought = m.content, '' %}
    {%- if m.reasoning_content is string %}
        {%- set thought = m.reasoning_content %}
    {%- elif m.role == 'assistant' and '</think>' in said %}
        {%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- m.role + '\\n' }}
    {%- if loop.index0 > ns.user and thought %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
    {{- said }}
    {%- for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}"""
# Ministral 3: thinking is a part of the content, and an answer must hold something
PARTS = """
{%- for m in messages %}
    {{- '[' + m.role + ']' }}
    {%- if m.role == 'assistant' and not m.content and not m.tool_calls %}{{ raise_exception('empty') }}{% endif %}
    {%- if m.content is string %}{{ m.content }}{% else %}
        {%- for part in m.content %}
            {{- '[THINK]' + part.thinking + '[/THINK]' if part.type == 'thinking' else part.text }}
        {%- endfor %}
    {%- endif %}
    {%- for c in m.tool_calls or [] %}{{ '[CALL]' + c.function.name + c.function.arguments }}{% endfor %}
{%- endfor %}"""
# thinking is cut out of earlier turns, and shown where the answer itself holds it
INLINE = """
{%- set ns = namespace(user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {%- set said = m.content.split('</think>')[-1] if loop.index0 < ns.user else m.content %}
    {{- m.role + ':' + said }}
    {%- for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}
{%- endfor %}"""
# Mistral: ids of exactly nine
NINE = """
{%- for m in messages %}
    {{- m.role + ':' + m.content }}
    {%- for c in m.tool_calls or [] %}
        {%- if c.id | length != 9 %}{{ raise_exception('ids of length 9') }}{% endif %}
        {{- c.function.name + '#' + c.id + '#' }}
    {%- endfor %}
    {%- if m.role == 'tool' %}
        {%- if m.tool_call_id | length != 9 %}{{ raise_exception('ids of length 9') }}{% endif %}
        {{- '#' + m.tool_call_id + '#' }}
    {%- endif %}
{%- endfor %}"""
LAST_NINE = (
    NINE.replace("!= 9", "< 9").replace("+ c.id", "+ c.id[-9:]").replace("m.tool_call_id +", "m.tool_call_id[-9:] +")
)
# Kimi K2: a call is told by its id alone
NAMED = """
{%- for m in messages %}
    {{- '<' + m.role + '>' + m.content }}
    {%- for c in m.tool_calls or [] %}{{ '<call>' + c.id + '<args>' + c.function.arguments }}{% endfor %}
    {%- if m.role == 'tool' %}{{ ' of ' + m.tool_call_id }}{% endif %}
{%- endfor %}"""
ANY = NAMED.replace("+ c.id", "+ c.id + ' ' + c.function.name")


def user(content="u"):
    return {"role": "user", "content": content}


def calls(*made, **message):
    """An answer that calls: (id, name) each."""
    listed = [{"id": i, "type": "function", "function": {"name": n, "arguments": '{"a": 1}'}} for i, n in made]
    return {"role": "assistant", "content": None, **message, "tool_calls": listed}


def result(identifier, content="r"):
    return {"role": "tool", "tool_call_id": identifier, "content": content}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (HARMONY, '<analysis>T<call f>{"a": 1}<from f>r'),
        (LIQUID, "assistant:<think>T</think>f([('a', 1)])<|im_end|>"),
        (QWEN, 'assistant\n<think>\nT\n</think>\n\nf{"a": 1}<|im_end|>'),
        (PARTS, '[assistant][THINK]T[/THINK][CALL]f{"a": 1}[tool]r'),
        (INLINE, 'assistant:<think>T</think>f{"a": 1}tool:r'),
    ],
    ids=["thinking", "thinking, tags", "reasoning_content", "parts", "inside of content"],
)
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_between_calls_stands_where_the_template_looks(source, shown, name):
    messages = [user(), calls(("1", "f"), **{name: "T"}), result("1")]
    assert shown in ChatTemplate(source, TAGS).render(messages)
    assert messages == [user(), calls(("1", "f"), **{name: "T"}), result("1")]


@pytest.mark.parametrize("content", ["S", [{"type": "text", "text": "S"}]])
@pytest.mark.parametrize(("source", "shown"), [(INLINE, "<think>T</think>S"), (PARTS, "[THINK]T[/THINK]S")])
def test_thinking_joins_content_of_either_form(source, shown, content):
    text = "(m.content if m.content is string else m.content | map(attribute='text') | join)"
    joins = source.replace("m.content", text) if source == INLINE else source
    assert shown in ChatTemplate(joins, TAGS).render([user(), calls(("1", "f"), content=content, thinking="T")])


def test_content_gives_way_to_thinking_where_a_template_takes_one_of_both():
    template = ChatTemplate(HARMONY)
    both = [user(), calls(("1", "f"), content="S", reasoning_content="T"), result("1")]
    assert template.render(both) == '<user>u<analysis>T<call f>{"a": 1}<from f>r'
    said = [user(), calls(("1", "f"), content="S"), result("1")]
    assert template.render(said) == '<user>u<analysis>S<call f>{"a": 1}<from f>r'
    # beside no call both stand, and where both are shown, both stay
    assert "<assistant>S" in template.render([user(), {"role": "assistant", "content": "S", "thinking": "T"}])
    assert "</think>\n\nSf{" in ChatTemplate(QWEN).render(both)


def test_an_answer_that_was_only_thinking():
    thought = {"role": "assistant", "content": None, "reasoning_content": "T"}
    assert ChatTemplate(PARTS).render([user(), thought, user()]) == "[user]u[assistant][THINK]T[/THINK][user]u"
    assert ChatTemplate(QWEN).render([user(), thought, user()]).count("assistant\n<|im_end|>") == 1
    assert ChatTemplate(HARMONY).render([user(), thought, user()]) == "<user>u<assistant><user>u"


TAGGED = ["<think>\nhm\n</think>\n\nHello!", "<think></think>Hello!", "\n<think>hm</think>\nHello!"]


@pytest.mark.parametrize("content", [*TAGGED, "hm\n</think>\n\nHello!"])
@pytest.mark.parametrize("source", [QWEN, LIQUID])
def test_a_template_cuts_thinking_out_of_content_as_if_nothing_were_marked(source, content):
    messages = [user(), {"role": "assistant", "content": content}, user("2+2?")]
    text = ChatTemplate(source, TAGS).render(messages)
    assert text == ChatTemplate(source).render(messages)
    assert re.search(r"assistant[:\n]Hello!", text)


@pytest.mark.parametrize("content", TAGGED)
def test_thinking_inside_of_content_is_taken_out_for_templates_that_do_not_look_there(content):
    """Under its own name such a template shows or drops it as it does all thinking."""
    answer = {"role": "assistant", "content": content}
    assert ChatTemplate(HARMONY, TAGS).render([user(), answer, user()]) == "<user>u<assistant>Hello!<user>u"
    shown = ChatTemplate(PARTS, TAGS).render([user(), answer, user()])
    assert shown == f"[user]u[assistant]{'[THINK]hm[/THINK]' if 'hm' in content else ''}Hello![user]u"


@pytest.mark.parametrize("content", ["Write <think>a</think> so.", "<think>never closed", "a </think> b"])
def test_tags_in_a_sentence_stay(content):
    text = ChatTemplate(HARMONY, TAGS).render([user(), {"role": "assistant", "content": content}, user()])
    assert text == f"<user>u<assistant>{content}<user>u"


def test_tags_of_thinking_are_tokens_only_where_the_template_reads_them_in_an_answer():
    answer = "<think>hm <|im_end|></think>Hello! </think>"
    for role, spelt in (("assistant", ["<think>", "</think>"]), ("user", [])):
        pieces = ChatTemplate(INLINE, TAGS).render_pieces([user(), {"role": role, "content": answer}])
        assert "".join(text for text, _ in pieces) == f"user:u{role}:{answer}"
        assert re.findall(r"</?think>|<.im_end.>", "".join(text for text, true in pieces if true)) == spelt


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_calls_and_results_take_turns_where_a_message_shows_one_call(order):
    results = [result(i, f"r{i}") for i in order]
    messages = [user(), calls(("1", "f"), ("2", "g"), reasoning_content="T"), *results, user()]
    one, two = '<call f>{"a": 1}<from f>r1', '<call g>{"a": 1}<from g>r2'
    assert ChatTemplate(HARMONY).render(messages) == f"<user>u<analysis>T{one}{two}<user>u"
    # all stay together where the template shows all
    assert ChatTemplate(QWEN).render(messages).count("assistant\n") == 1


def test_a_template_that_refuses_several_calls_gets_them_one_by_one():
    refuses = "{% for m in messages %}{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('one') }}"
    refuses += (
        "{% endif %}{% for c in m.tool_calls or [] %}{{ c.function.name }}={% endfor %}{{ m.content }};{% endfor %}"
    )
    messages = [user(), calls(("1", "f"), ("2", "g"), ("3", "h")), result("3", "c"), result("1", "a"), result("9", "z")]
    assert ChatTemplate(refuses).render(messages) == "u;f=;a;g=;h=;c;z;"


LONG = ("call_abc123def456", "call_xyz123def456", "1", "a-b_c", "functions.f:0", "nine_char", "é" * 9, "")


@pytest.mark.parametrize("source", [NINE, LAST_NINE])
def test_ids_become_nine_letters_and_digits_the_same_in_call_and_result(source):
    template = ChatTemplate(source)
    seen = set()
    for identifier in LONG:
        messages = [user(), calls((identifier, "f")), result(identifier)]
        called, answered = re.findall(r"#(.*?)#", template.render(messages))
        assert called == answered
        assert re.fullmatch("[A-Za-z0-9]{9}", called)
        assert template.render(messages) == template.render(messages)  # a prefix of the next turn
        seen.add(called)
    assert len(seen) == len(LONG)
    kept = [user(), calls(("abcDEF123", "f")), result("abcDEF123"), result("call_of_none")]
    assert re.findall(r"#(.*?)#", template.render(kept))[:2] == ["abcDEF123", "abcDEF123"]


def test_ids_name_the_call_where_the_template_tells_it_by_nothing_else():
    template = ChatTemplate(NAMED)
    first = [user(), calls(("call_a", "f"), ("call_b", "g")), result("call_b"), result("call_a")]
    again = [user(), calls(("call_a", "f"), ("functions.g:7", "g")), result("call_a"), result("functions.g:7")]
    assert re.findall(r"<call>(.*?)<|of ([^<]*)", template.render([*first, *again])) == [
        ("functions.f:0", ""), ("functions.g:1", ""), ("", "functions.g:1"), ("", "functions.f:0"),
        ("functions.f:2", ""), ("functions.g:7", ""), ("", "functions.f:2"), ("", "functions.g:7"),
    ]  # fmt: skip
    assert "<call>call_a f" in ChatTemplate(ANY).render(first)


def test_a_template_is_asked_with_tools_where_it_shows_calls_only_beside_them():
    source = "{% for tool in tools %}{{ tool.function.name }}{% endfor %}" + QWEN
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
    messages = [user(), calls(("1", "f"), reasoning_content="T"), result("1")]
    assert "<think>\nT\n</think>" in ChatTemplate(source).render(messages, tools)


def test_thinking_that_a_template_shows_only_while_it_is_switched_on():
    source = "{% for m in messages %}{{ m.content }}{% if thinking %}{{ m.reasoning }}{% endif %}{% endfor %}"
    answer = {"role": "assistant", "content": "S", "reasoning_content": "T"}
    template = ChatTemplate(source)
    assert template.render([user(), answer, user()], variables={"thinking": True}) == "uSTu"
    assert template.render([user(), answer, user()]) == "uSu"
