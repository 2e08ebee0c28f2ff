"""instructor: one object in each of its modes, whole and growing, a list whose items come one by one, and two calls.

It needs another openai package than the other clients, so it runs in an environment of its own.
"""

from collections.abc import Iterable
from typing import Literal

import pytest
from conftest import MODEL

instructor = pytest.importorskip("instructor", reason="requirements_instructor.txt is not installed here")
from anthropic import Anthropic  # noqa: E402
from instructor import Mode  # noqa: E402
from openai import OpenAI  # noqa: E402
from pydantic import BaseModel, ConfigDict, model_validator  # noqa: E402

FIELDS = {"messages": [{"role": "user", "content": "turn on the kitchen light"}], "max_tokens": 400}


class SetLight(BaseModel):
    """Turn a light on or off"""

    model_config = ConfigDict(extra="forbid")
    room: Literal["kitchen", "hall", "garage"]
    on: bool


SCHEMA = SetLight.model_json_schema()
TASKS = {"type": "array", "items": SCHEMA, "minItems": 2, "maxItems": 2}
LIST = {"type": "object", "properties": {"tasks": TASKS}, "required": ["tasks"], "additionalProperties": False}
# These modes describe the schema in words; a server that is told of it keeps the model to it all the same.
IN_WORDS = {Mode.JSON, Mode.MD_JSON, Mode.JSON_O1}
MODES = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.RESPONSES_TOOLS, Mode.JSON_SCHEMA, *sorted(IN_WORDS, key=str)]
OF_ANTHROPIC = [Mode.ANTHROPIC_TOOLS, Mode.ANTHROPIC_REASONING_TOOLS, Mode.ANTHROPIC_JSON]
ASKED_AGAIN = [Mode.TOOLS, Mode.RESPONSES_TOOLS, Mode.JSON_SCHEMA, Mode.ANTHROPIC_TOOLS]


def held_to(schema):
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {"extra_body": {"response_format": form, "thinking_budget": 32}}


@pytest.fixture
def ask(url, request):
    """A client of the parameter's mode, and what to send beside the question."""
    mode = request.param
    if mode in OF_ANTHROPIC:
        client = Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0)
        form = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
        fields = {"extra_body": form} if mode is Mode.ANTHROPIC_JSON else {}
        wrapped = instructor.from_anthropic(client, mode=mode)
    else:
        client = OpenAI(base_url=url, api_key="none", max_retries=0)
        fields = held_to(SCHEMA) if mode in IN_WORDS else {}
        wrapped = instructor.from_openai(client, mode=mode)
    with client:
        yield wrapped, {"model": MODEL, "response_model": SetLight, "max_retries": 0, **FIELDS, **fields}


@pytest.mark.parametrize("ask", [*MODES, *OF_ANTHROPIC], ids=lambda mode: mode.name, indirect=True)
def test_an_object_whole_and_as_it_grows(ask):
    client, fields = ask
    whole, answer = client.create_with_completion(**fields)
    assert isinstance(whole, SetLight) and answer.model == MODEL
    *_, last = client.create_partial(**fields)
    assert last.model_dump() == whole.model_dump()


@pytest.mark.parametrize("ask", [Mode.JSON_SCHEMA, Mode.JSON, Mode.MD_JSON], ids=lambda mode: mode.name, indirect=True)
def test_items_of_a_list_come_one_by_one(ask):
    client, fields = ask
    items = client.create_iterable(**{**fields, **held_to(LIST)})
    assert [type(item) for item in items] == [SetLight, SetLight]


@pytest.mark.parametrize("ask", [Mode.TOOLS], indirect=True)
def test_items_of_a_called_list(ask):
    client, fields = ask
    assert all(isinstance(item, SetLight) for item in client.create_iterable(**fields))


@pytest.mark.parametrize("ask", [Mode.PARALLEL_TOOLS], indirect=True)
def test_calls_of_what_was_declared(ask):
    client, fields = ask
    found = list(client.create(**{**fields, "response_model": Iterable[SetLight]}))
    assert found and all(isinstance(each, SetLight) for each in found)


@pytest.mark.parametrize("ask", ASKED_AGAIN, ids=lambda mode: mode.name, indirect=True)
def test_an_answer_that_was_refused_is_asked_again(ask):
    client, fields = ask
    seen = []

    class Checked(SetLight):
        """Turn a light on or off"""

        @model_validator(mode="after")
        def refuse_the_first(self):
            seen.append(self)
            if len(seen) == 1:
                raise ValueError("say it again")
            return self

    again = client.create(**{**fields, "response_model": Checked, "max_retries": 2})
    assert isinstance(again, Checked) and len(seen) == 2
