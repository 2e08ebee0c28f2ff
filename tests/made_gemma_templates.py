"""Chat templates of our own writing with the traits of those that Gemma 4 was published with, first and later.

Arguments are shown from objects; results of tools belong to the model's own turn, which the next answer goes on with;
text beside a call stands behind the results.
"""

_CALLS = """
{%- macro value(v) -%}
    {%- if v is none %}null{% elif v is string %}{{ '<|"|>' + v + '<|"|>' }}
    {%- elif v is boolean %}{{ 'true' if v else 'false' }}
    {%- elif v is mapping %}{{ '{' }}{% for k, w in v | dictsort %}{{ k + ':' + value(w) }}{{ ',' if not loop.last }}
        {%- endfor %}{{ '}' }}
    {%- elif v is iterable %}[{% for w in v %}{{ value(w) }}{{ ',' if not loop.last }}{% endfor %}]
    {%- else %}{{ v }}{% endif %}
{%- endmacro %}
{%- macro called(m) -%}
    {%- for c in m.tool_calls %}
        {{- '<|tool_call>call:' + c.function.name + '{' }}
        {%- if c.function.arguments is mapping %}
            {%- for k, v in c.function.arguments | dictsort %}{{ k + ':' + value(v) }}{{ ',' if not loop.last }}
            {%- endfor %}
        {%- else %}TEXT{% endif %}
        {{- '}<tool_call|>' }}
    {%- endfor %}
{%- endmacro %}
{%- set enable_thinking = enable_thinking | default(false) %}
{{- bos_token }}
{%- if enable_thinking or tools %}
    {{- '<|turn>system\\n' + ('<|think|>\\n' if enable_thinking else '') }}
    {%- for t in tools or [] %}{{ '<|tool>declaration:' + t.function.name + '{}<tool|>' }}{% endfor %}
    {{- '<turn|>\\n' }}
{%- endif %}"""
GEMMA_4 = (
    _CALLS.replace("TEXT", "{{ raise_exception('arguments must be an object') }}")
    + """
{%- set ns = namespace(user=-1, last='', role='', next='') %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {%- if m.role not in ['system', 'tool'] %}
        {%- set ns.last = '' %}
        {%- set ns.next = '' %}
        {%- if not (m.role == 'assistant' and ns.role == 'assistant') %}
            {{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
        {%- endif %}
        {%- set thought = m.get('reasoning') or m.get('reasoning_content') %}
        {%- if thought and (loop.index0 > ns.user or (preserve_thinking | default(false) and m.tool_calls)) %}
            {{- '<|channel>thought\\n' + thought + '\\n<channel|>' }}
        {%- endif %}
        {%- if m.tool_calls %}{{ called(m) }}{% set ns.last = 'call' %}{% endif %}
        {%- for r in messages[loop.index:] %}
            {%- if r.role == 'tool' and m.tool_calls and not ns.next %}
                {{- '<|tool_response>response:' }}
                {%- for c in m.tool_calls if c.id == r.tool_call_id %}{{ c.function.name }}{% endfor %}
                {{- '{value:' + value(r.content) + '}<tool_response|>' }}
                {%- set ns.last = 'response' %}
            {%- elif not ns.next %}{% set ns.next = r.role %}{% endif %}
        {%- endfor %}
        {{- m.content | trim }}
        {%- if ns.last == 'call' %}{{ '<|tool_response>' }}
        {%- elif not (m.role == 'assistant' and ns.next == 'assistant') and (ns.next or not ns.last or m.content) %}
            {{- '<turn|>\\n' }}
        {%- endif %}
        {%- set ns.role = m.role %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {%- if not ns.last %}{{ '<|turn>model\\n' + ('' if enable_thinking else '<|channel>thought\\n<channel|>') }}
    {%- elif ns.last == 'response' and enable_thinking %}{{ '<|channel>thought\\n' }}{% endif %}
{%- endif %}"""
)
# it prints arguments that are text within braces of its own, and finds results under `tool_responses` alone
GEMMA_4_FIRST = (
    _CALLS.replace("TEXT", "{{ c.function.arguments }}")
    + """
{%- set ns = namespace(last='') %}
{%- for m in messages if m.role != 'system' %}
    {{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
    {%- set ns.last = '' %}
    {%- if m.tool_calls %}{{ called(m) }}{% endif %}
    {%- for r in m.tool_responses or [] %}
        {{- '<|tool_response>response:' + r.name + '{value:' + value(r.response) + '}<tool_response|>' }}
        {%- set ns.last = 'response' %}
    {%- endfor %}
    {{- m.content | trim }}
    {%- if not (m.tool_responses and not m.content) %}{{ '<turn|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- ('' if ns.last else '<|turn>model\\n') + ('' if enable_thinking else '<|channel>thought\\n<channel|>') }}
{%- endif %}"""
)
