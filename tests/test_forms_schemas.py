"""Calls of any schema that can be made up here, in every chat format: always read back, always of the schema."""

import pytest
from held_answers import CALL_FORMATS, check_required, required, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError

NAMES = st.sampled_from(["a", "b_c", "größe", "x-y", "名", "with blank", "class"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<>", exclude_categories=("Cs", "Cc")), max_size=6)
STRINGS = st.one_of(
    st.just({"type": "string"}),
    st.builds(
        lambda low, more: {"minLength": low, "type": "string", "maxLength": low + more}, *[st.integers(0, 4)] * 2
    ),
    st.sampled_from([r"^[a-f]+$", r"^\d{2}-\w$", "x", r"^(a|b/c)$", "^<b>|y$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.sampled_from(["date", "time", "date-time", "email", "uuid", "ipv4", "uri", "hostname", "duration"]).map(
        lambda name: {"type": "string", "format": name}
    ),
)
SCALARS = st.one_of(
    st.sampled_from([{}, {"type": "boolean"}, {"type": "null"}, {"type": "number"}, {"type": "integer"}]),
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, *[st.integers(0, 50)] * 2),
    st.lists(st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.none()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    TEXTS.map(lambda text: {"const": text}),
    st.lists(st.sampled_from(["string", "integer", "number", "boolean", "null"]), min_size=1, unique=True).map(
        lambda types: {"type": types}
    ),
    STRINGS,
)


def objects(values):
    properties = st.dictionaries(NAMES, values, max_size=3)
    return st.builds(
        lambda named, more: {"type": "object", "properties": named, "required": sorted(named)[:more]},
        properties,
        st.integers(0, 3),
    )


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(lambda schema: {"type": "array", "items": schema, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda schemas: {"anyOf": schemas}),
        inner.map(lambda schema: {"type": "object", "additionalProperties": schema}),
        objects(inner),
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("chat_format", CALL_FORMATS)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(parameters=objects(VALUES))
def test_calls_of_any_schema_are_of_it(chat_format, parameters):
    form = required(tool("f", parameters), most_calls=1)
    try:
        check_required(chat_format, form, 1)
    except MoedgeError as refused:  # no value, or one that a format without quotes cannot tell apart
        assert "f cannot be held to its parameters" in str(refused)
