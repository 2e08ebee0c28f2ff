"""Chat templates of our own writing, each with the traits of one that a family of 2026 publishes.

They are shorter than those: what they leave out are images, documents, and the sentences that explain tools.
"""

from dataclasses import dataclass

from made_gemma_templates import GEMMA_4, GEMMA_4_FIRST


@dataclass(frozen=True)
class Made:
    """A template, the format of the answers, and the ends of prompts with thinking `on` and `off`."""

    source: str
    chat_format: str
    on: str
    off: str


# Qwen 3.5, 3.6 and Nemotron 3: the prompt opens the thinking
_TAGGED_CALLS = """
{%- macro called(m) %}
    {%- for c in m.tool_calls or [] %}
        {{- '\\n<tool_call>\\n<function=' + c.function.name + '>\\n' }}
        {%- for k, v in c.function.arguments | items %}
            {{- '<parameter=' + k + '>\\n' + (v if v is string else v | tojson) + '\\n</parameter>\\n' }}
        {%- endfor %}
        {{- '</function>\\n</tool_call>' }}
    {%- endfor %}
{%- endmacro %}"""
QWEN_3_6 = (
    _TAGGED_CALLS
    + """
{%- if tools %}{{ '<|im_start|>system\\n<tools>' + tools | tojson + '</tools><|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' }}
    {%- set said, thought = m.content, '' %}
    {%- if m.reasoning_content is string %}
        {%- set thought = m.reasoning_content %}
    {%- elif '</think>' in said %}
        {%- set thought = said.split('</think>')[0].split('<think>')[-1] | trim('\\n') %}
        {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if m.role == 'assistant' and (loop.index0 > ns.user or (preserve_thinking is defined and preserve_thinking)) %}
        {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- '<tool_response>\\n' + said + '\\n</tool_response>' if m.role == 'tool' else said + called(m) }}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
)
NEMOTRON_3 = (
    _TAGGED_CALLS
    + """
{%- set enable_thinking = enable_thinking if enable_thinking is defined else True %}
{%- set truncate_history_thinking = truncate_history_thinking if truncate_history_thinking is defined else True %}
{%- if not tools is defined %}{% set tools = [] %}{% endif %}
{{- '<|im_start|>system\\n' }}{% for t in tools or [] %}<function>{{ t.function.name }}</function>{% endfor %}
{{- '<|im_end|>\\n' }}
{%- set ns = namespace(user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' }}
    {%- set cut = truncate_history_thinking and loop.index0 < ns.user %}
    {%- if m.role == 'assistant' and m.reasoning_content and not cut %}
        {{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n' }}
    {%- elif m.role == 'assistant' %}{{ '<think></think>' }}{% endif %}
    {{- m.content + called(m) + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + ('<think>\\n' if enable_thinking else '<think></think>') }}
{%- endif %}"""
)
# Granite 4.0 and 4.1: tools and results of tools between tags, no thinking
GRANITE_4 = """
{%- if tools %}
    {{- '<|start_of_role|>system<|end_of_role|><tools>' }}
    {%- for t in tools %}{{ '\\n' + t | tojson }}{% endfor %}
    {{- '\\n</tools>\\nCall in <tool_call></tool_call>.<|end_of_text|>\\n' }}
{%- endif %}
{%- for m in messages %}
    {{- '<|start_of_role|>' + ('user' if m.role == 'tool' else m.role) + '<|end_of_role|>' }}
    {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' if m.role == 'tool' else m.content }}
    {%- for c in m.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
        {{- c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"""


def _pairs(before_key: str, before_value: str, before_end: str) -> str:
    """Calls of GLM and its like, by the blanks that stand between their tags."""
    return f"""
{{%- macro called(m) %}}
    {{%- for c in m.tool_calls or [] %}}
        {{{{- '<tool_call>' + c.function.name }}}}
        {{%- for k, v in c.function.arguments.items() %}}
            {{{{- '{before_key}<arg_key>' + k + '</arg_key>{before_value}<arg_value>' }}}}
            {{{{- v if v is string else v | tojson }}}}{{{{ '</arg_value>' }}}}
        {{%- endfor %}}
        {{{{- '{before_end}</tool_call>' }}}}
    {{%- endfor %}}
{{%- endmacro %}}
{{%- for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}
{{%- set ns = namespace(user=-1) %}}
{{%- for m in messages %}}{{% if m.role == 'user' %}}{{% set ns.user = loop.index0 %}}{{% endif %}}{{% endfor %}}"""


GLM_4_5 = (
    _pairs("\\n", "\\n", "\\n")
    + """
{%- for m in messages %}
    {{- '<|' + ('observation' if m.role == 'tool' else m.role) + '|>\\n' }}
    {%- if m.role == 'assistant' %}
        {%- set thought = m.reasoning_content if m.reasoning_content is string and loop.index0 > ns.user else '' %}
        {{- '<think>' + thought + '</think>\\n' }}
    {%- endif %}
    {{- m.content + called(m) }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{ '\\n<think></think>' }}{% endif %}
{%- endif %}"""
)
GLM_4_7 = (
    _pairs("", "", "")
    + """
{%- for m in messages %}
    {{- '<|' + ('observation' if m.role == 'tool' else m.role) + '|>' }}
    {%- set keep = loop.index0 > ns.user or not (clear_thinking | default(true)) %}
    {%- if m.role == 'assistant' and m.reasoning_content and keep %}
        {{- '<think>' + m.reasoning_content + '</think>' }}
    {%- elif m.role == 'assistant' %}{{ '</think>' }}{% endif %}
    {{- m.content + called(m) }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' + ('</think>' if enable_thinking is defined and not enable_thinking else '<think>') }}
{%- endif %}"""
)
LAGUNA = (
    _pairs("", "", "")
    + """
{%- set enable_thinking = enable_thinking | default(true) %}
{%- for m in messages %}
    {{- '<tool_response>' if m.role == 'tool' else '<' + m.role + '>' }}
    {%- if m.role == 'assistant' and enable_thinking %}{{ '<think>' + (m.reasoning or '') + '</think>' }}
    {%- elif m.role == 'assistant' %}{{ '</think>' }}{% endif %}
    {{- m.content + called(m) }}
    {{- '</tool_response>\\n' if m.role == 'tool' else '</' + m.role + '>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' + ('<think>' if enable_thinking else '</think>') }}{% endif %}"""
)
LING_3 = (
    _pairs("", "\\n", "\\n")
    + """
{%- set thinks = enable_thinking is not defined or enable_thinking %}
{{- '<role>SYSTEM</role>detailed thinking ' + ('on' if thinks else 'off') + '<|role_end|>' }}
{%- set names = {'user': 'HUMAN', 'assistant': 'ASSISTANT', 'tool': 'OBSERVATION'} %}
{%- for m in messages if m.role in names %}
    {{- '<role>' + names[m.role] + '</role>' }}
    {%- if m.role == 'assistant' %}{{ '\\n<think>' + (m.reasoning_content or '') + '</think>' }}{% endif %}
    {{- m.content + ('\\n' if m.content and m.tool_calls else '') + called(m) + '<|role_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<role>ASSISTANT</role>\\n<think>' + ('' if thinks else '</think>') }}
{%- endif %}"""
)


def _cohere(begin: str, end: str, prompt: str) -> str:
    return f"""
{{%- set ns = namespace(count=0) %}}
{{%- for t in tools or [] %}}{{{{ t.function | tojson }}}}{{% endfor %}}
{{%- for m in messages %}}
    {{{{- '<|START_OF_TURN_TOKEN|>' }}}}
    {{{{- {{'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'}}[m.role] | default('<|SYSTEM_TOKEN|>') }}}}
    {{%- set thought = m.reasoning_content %}}
    {{%- if thought %}}{{{{ '<|START_THINKING|>' + thought + '<|END_THINKING|>' }}}}{{% endif %}}
    {{%- if m.tool_calls %}}
        {{{{- '<|START_ACTION|>[' }}}}
        {{%- for c in m.tool_calls %}}
            {{{{- '\\n    {{"tool_call_id": "' ~ ns.count ~ '", "tool_name": "' }}}}
            {{{{- c.function.name + '", "parameters": ' }}}}
            {{{{- c.function.arguments | tojson + '}}' + (',' if not loop.last else '') }}}}
            {{%- set ns.count = ns.count + 1 %}}
        {{%- endfor %}}
        {{{{- '\\n]<|END_ACTION|>' }}}}
    {{%- elif m.role == 'tool' %}}{{{{ '<|START_TOOL_RESULT|>' + m.content | tojson + '<|END_TOOL_RESULT|>' }}}}
    {{%- else %}}{{{{ m.content if m.role == 'user' else '{begin}' + m.content + '{end}' }}}}{{% endif %}}
    {{{{- '<|END_OF_TURN_TOKEN|>' }}}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + {prompt} }}}}{{% endif %}}"""


COMMAND = _cohere("<|START_RESPONSE|>", "<|END_RESPONSE|>", "''")
_SWITCHED = "('<|START_THINKING|>' if thinks else '<|START_THINKING|><|END_THINKING|>')"
NORTH = """
{%- set reasoning = reasoning | default(true) %}
{%- set thinks = reasoning and reasoning_effort | default('') != 'none' %}""" + _cohere(
    "<|START_TEXT|>", "<|END_TEXT|>", _SWITCHED
)
_ACTION = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
_IM = "<|im_start|>assistant\n"

MADE = {
    "Gemma 4": Made(GEMMA_4, "gemma4", "<|turn>model\n", "<|turn>model\n<|channel>thought\n<channel|>"),
    "Gemma 4, first": Made(GEMMA_4_FIRST, "gemma4", "<|turn>model\n", "<|turn>model\n<|channel>thought\n<channel|>"),
    "Qwen 3.6": Made(QWEN_3_6, "qwen3_coder", f"{_IM}<think>\n", f"{_IM}<think>\n\n</think>\n\n"),
    "Nemotron 3": Made(NEMOTRON_3, "qwen3_coder", f"{_IM}<think>\n", f"{_IM}<think></think>"),
    "Granite 4": Made(GRANITE_4, "granite", "assistant<|end_of_role|>", "assistant<|end_of_role|>"),
    "GLM 4.5": Made(GLM_4_5, "glm", "<|assistant|>", "<|assistant|>\n<think></think>"),
    "GLM 4.7": Made(GLM_4_7, "glm", "<|assistant|><think>", "<|assistant|></think>"),
    "Laguna": Made(LAGUNA, "glm", "<assistant><think>", "<assistant></think>"),
    "Ling 3": Made(LING_3, "glm", "ASSISTANT</role>\n<think>", "ASSISTANT</role>\n<think></think>"),
    "Command R7B": Made(COMMAND, "cohere", _ACTION, _ACTION),
    "North": Made(NORTH, "cohere", f"{_ACTION}<|START_THINKING|>", f"{_ACTION}<|START_THINKING|><|END_THINKING|>"),
}
