"""Text completions through the official `openai` package."""

import asyncio

import openai
import pytest
from conftest import MODEL
from openai import AsyncOpenAI, OpenAI


@pytest.fixture(scope="module")
def create(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield lambda prompt, **more: client.completions.create(
            model=MODEL, prompt=prompt, **{"temperature": 0, "max_tokens": 8, **more}
        )


def test_a_text_is_continued(create):
    completion = create("hello")
    (choice,) = completion.choices
    assert (choice.finish_reason, completion.object) == ("length", "text_completion")
    assert completion.usage.completion_tokens == 8
    assert create("hello", echo=True).choices[0].text == "hello" + choice.text


def test_several_prompts_have_several_answers_each(create):
    choices = create(["Turn on", "hello"], n=2, temperature=1, seed=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    alone = create("hello", n=2, temperature=1, seed=3).choices
    assert [choice.text for choice in choices[2:]] == [choice.text for choice in alone]
    texts = ["", "", "", ""]
    for chunk in create(["Turn on", "hello"], n=2, temperature=1, seed=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in choices]


def test_token_ids_are_a_prompt(create):
    ids = [5, 6, 7]
    (one,) = create(ids).choices
    again, _ = create([ids, [8, 9]]).choices
    assert again.text == one.text
    with pytest.raises(openai.BadRequestError) as raised:
        create([10**9])
    assert raised.value.param == "prompt"


def test_logprobs_join_to_the_text(create):
    (choice,) = create("hello", logprobs=3).choices
    told = choice.logprobs
    assert "".join(told.tokens) == choice.text
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 8
    assert all(
        choice.text[place:].startswith(token) for place, token in zip(told.text_offset, told.tokens, strict=True)
    )


def test_stops_seeds_and_biases(create):
    whole = create("hello", max_tokens=30).choices[0].text
    stop = whole[4:6]
    (choice,) = create("hello", max_tokens=30, stop=stop).choices
    assert (choice.text, choice.finish_reason) == (whole[: whole.index(stop)], "stop")
    more = {"temperature": 1.3, "seed": 11, "frequency_penalty": 0.5, "presence_penalty": 0.5, "top_p": 0.9}
    assert create("hello", **more).choices[0].text == create("hello", **more).choices[0].text
    assert create("hello", logit_bias={"5": 100}, max_tokens=2).usage.completion_tokens == 2


def test_a_stream_ends_with_its_usage(create):
    *chunks, last = create("hello", stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == create("hello").choices[0].text
    assert (last.choices, last.usage.completion_tokens) == ([], 8)


def test_an_asynchronous_stream(url):
    async def ask():
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            stream = await client.completions.create(
                model=MODEL, prompt="hello", temperature=0, max_tokens=8, stream=True
            )
            return [chunk.choices[0].finish_reason async for chunk in stream]

    assert asyncio.run(ask())[-1] == "length"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"best_of": 3}, "best_of"), ({"suffix": "x"}, "suffix"), ({"logprobs": 21}, "logprobs"), ({"n": 9}, "n")],
)
def test_what_does_not_fit_is_named(create, fields, param):
    with pytest.raises(openai.BadRequestError) as raised:
        create("hello", **fields)
    assert raised.value.param == param
