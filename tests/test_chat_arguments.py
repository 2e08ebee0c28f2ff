"""Earlier tool calls, as each kind of template wants them: their arguments, and the content beside them."""

import json

import pytest

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.template import ChatTemplate

LOOP = "{% for m in messages %}{% for c in m.tool_calls or [] %}CALL{% endfor %}{{ m.content }}|{% endfor %}"
AS_TEXT = "{{ c.function.name + c.function.arguments }}"
AS_OBJECT = "{% for k, v in c.function.arguments.items() %}<k>{{ k }}</k>{{ v }}{% endfor %}"
ENCODED = "{{ c.function.arguments | tojson }}"
EITHER = "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}"
# calls in a message whose content is null, and in no other
UNLESS_CONTENT = (
    "{% for m in messages %}{% if m.content is none %}{% for c in m.tool_calls %}<call>CALL{% endfor %}"
    "{% else %}{{ m.content }}|{% endif %}{% endfor %}"
)


def conversation(arguments, content="a"):
    function = {"name": "f", "arguments": arguments}
    return [
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "content": content,
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    ]


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        (AS_TEXT, 'f{"a":  "<x>"}'),  # as it was written, blanks and all
        (AS_OBJECT, "<k>a</k><x>"),
        (ENCODED, '{"a": "<x>"}'),
        (EITHER, '{"a":  "<x>"}'),
    ],
)
def test_arguments_are_given_as_the_template_wants_them(call, shown):
    template = ChatTemplate(LOOP.replace("CALL", call), special_tokens=("<x>",))
    messages = conversation('{"a":  "<x>"}')
    assert template.render(messages) == f"u|{shown}a|r|"
    assert messages == conversation('{"a":  "<x>"}')
    assert template.render(messages[:1]) == "u|"


@pytest.mark.parametrize(
    ("call", "shown"), [(AS_TEXT, 'f{"a":  "<x>"}'), (AS_OBJECT, "<k>a</k><x>"), (ENCODED, '{"a": "<x>"}')]
)
@pytest.mark.parametrize("content", ["", "\n\n", None])
def test_calls_that_a_template_shows_beside_null_alone_do_not_vanish(call, shown, content):
    template = ChatTemplate(UNLESS_CONTENT.replace("CALL", call), special_tokens=("<x>",))
    messages = conversation('{"a":  "<x>"}', content)
    assert template.render(messages) == f"u|<call>{shown}r|"
    assert messages == conversation('{"a":  "<x>"}', content)
    assert template.render(conversation("{}", "a")) == "u|a|r|"  # what the template makes of both


def test_empty_content_beside_calls_stays_where_the_template_shows_them():
    shows_all = LOOP.replace("CALL", AS_TEXT).replace("m.content", "m.content | tojson")
    assert ChatTemplate(shows_all).render(conversation("{}", "")) == '"u"|f{}""|"r"|'


def test_no_arguments_are_an_empty_object():
    assert ChatTemplate(LOOP.replace("CALL", ENCODED)).render(conversation("")) == "u|{}a|r|"


@pytest.mark.parametrize("arguments", ["{oops", "[1]", "[" * 100_000])
def test_broken_arguments_stay_text(arguments):
    assert json.dumps(arguments) in ChatTemplate(LOOP.replace("CALL", ENCODED)).render(conversation(arguments))
    with pytest.raises(MoedgeError, match="cannot render"):
        ChatTemplate(LOOP.replace("CALL", AS_OBJECT)).render(conversation(arguments))


def test_a_template_that_refuses_calls_refuses_them_still():
    refusal = "{% if messages | length > 1 %}{{ raise_exception('no') }}{% endif %}"
    template = ChatTemplate(refusal + "{{ messages[0].content }}")
    assert template.render(conversation("{}")[:1]) == "u"
    with pytest.raises(MoedgeError, match="refuses these messages: no"):
        template.render(conversation("{}"))
