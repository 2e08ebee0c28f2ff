"""The official `openai` package: helpers that parse, streams that collect, errors that it tells apart."""

import openai
import pytest
from conftest import MODEL
from openai import OpenAI
from pydantic import BaseModel

ASK = [{"role": "user", "content": "turn on the kitchen light"}]


class SetLight(BaseModel):
    """Turn a light on or off"""

    room: str
    on: bool


@pytest.fixture
def client(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_a_call_is_parsed_into_the_model_that_declared_it(client):
    tools = [openai.pydantic_function_tool(SetLight, name="set_light")]
    (choice,) = client.chat.completions.parse(model=MODEL, messages=ASK, tools=tools, temperature=0).choices
    (call,) = choice.message.tool_calls
    assert call.function.parsed_arguments == SetLight(room="kitchen", on=True)
    assert choice.finish_reason == "tool_calls"


def test_a_stream_collects_to_the_same_answer(client):
    tools = [openai.pydantic_function_tool(SetLight, name="set_light")]
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=tools, temperature=0) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.parsed_arguments == SetLight(room="kitchen", on=True)


def test_errors_are_those_of_the_package(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x " * 20000}])
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=ASK)
