"""What is optional in OpenAI's form of messages and tools, in templates that cannot do without."""

import pytest

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.template import ChatTemplate

USER = {"role": "user", "content": "u"}
BARE = {"name": "f"}


@pytest.mark.parametrize("content", [None, ""])
def test_null_and_empty_lists_say_nothing(content):
    source = "{% for m in messages %}{{ m.role + m.content }}{% if 'tool_calls' in m %}"
    source += "{{ m.tool_calls[0].function.name }}{% endif %}"
    source += "{% if 'name' in m or 'thinking' in m %}{{ m.name + '' }}{% endif %}{% endfor %}"
    template = ChatTemplate(source)
    answer = {"role": "assistant", "content": content, "tool_calls": [], "name": None, "thinking": ""}
    assert template.render([USER, answer, USER]) == "useruassistantuseru"
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    made = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "1", "content": content}
    assert template.render([USER, made, result]) == "useruassistantftool"
    assert result["content"] == content


@pytest.mark.parametrize(
    "function",
    [
        BARE,
        {**BARE, "description": "d"},
        {**BARE, "parameters": {}},
        {**BARE, "description": None, "parameters": None},
        {**BARE, "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
    ],
)
def test_a_tool_without_description_or_parameters(function):
    source = "{% for t in tools %}{{ '// ' + t.function.description }}|"
    source += "{% for p in t.function.parameters.properties.items() %}{{ p[0] }}{% endfor %}{% endfor %}"
    shown = f"// {function.get('description') or ''}|{'x' if function.get('parameters') else ''}"
    assert ChatTemplate(source).render([USER], [{"type": "function", "function": function}]) == shown


def test_tools_stay_as_they_were_sent_where_a_template_shows_them_so():
    tool = {"type": "function", "function": BARE}
    shown = ChatTemplate("{{ tools | tojson }}").render([USER], [tool])
    assert shown == '[{"type": "function", "function": {"name": "f"}}]'
    with pytest.raises(MoedgeError, match="refuses these messages: never"):
        ChatTemplate("{{ tools }}{{ raise_exception('never') }}").render([USER], [tool])
