"""The official `openai` package beside its answers: models, what is not served, and the errors that it tells apart."""

import threading

import openai
import pytest
from conftest import MODEL, serving
from openai import OpenAI

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_models(client):
    (model,) = client.models.list()
    assert (model.id, model.object) == (MODEL, "model")
    assert client.models.retrieve(MODEL) == model
    for missing in ("gpt-4o", "a/b", "ünknown"):
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve(missing)
        assert raised.value.code == "model_not_found"


def test_a_prompt_too_long_is_told_by_its_code(client):
    long = "x " * 20000
    for ask in (
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": long}]),
        lambda: client.completions.create(model=MODEL, prompt=long),
        lambda: client.responses.create(model=MODEL, input=long),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            ask()
        assert raised.value.code == "context_length_exceeded"


def test_a_model_that_is_not_there_is_not_found(client):
    for ask in (
        lambda: client.chat.completions.create(model="gpt-4o", messages=HELLO),
        lambda: client.completions.create(model="gpt-4o", prompt="x"),
        lambda: client.responses.create(model="gpt-4o", input="x"),
        lambda: client.embeddings.create(model="gpt-4o", input="x"),
    ):
        with pytest.raises(openai.NotFoundError) as raised:
            ask()
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_a_model_of_text_embeds_none(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model=MODEL, input="x")
    assert (raised.value.param, raised.value.code) == ("model", "unsupported_model")


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.moderations.create(input="x"),
        lambda client: client.images.generate(prompt="x", model="x"),
        lambda client: client.images.edit(image=b"x", prompt="x"),
        lambda client: client.audio.speech.create(input="x", model="x", voice="ash"),
        lambda client: client.audio.transcriptions.create(file=b"x", model="x"),
        lambda client: client.files.list(),
        lambda client: client.files.create(file=b"x", purpose="batch"),
        lambda client: client.batches.list(),
        lambda client: client.fine_tuning.jobs.list(),
        lambda client: client.vector_stores.list(),
        lambda client: client.conversations.create(),
        lambda client: client.conversations.retrieve("conv_1"),
        lambda client: client.containers.list(),
        lambda client: client.evals.list(),
        lambda client: client.responses.compact(model=MODEL, input="x"),
        lambda client: client.post("/assistants", cast_to=object, body={"model": MODEL}),
        lambda client: client.get("/nothing", cast_to=object),
    ],
)
def test_what_is_not_served_is_not_found(client, ask):
    with pytest.raises(openai.NotFoundError) as raised:
        ask(client)
    assert raised.value.response.headers["content-type"] == "application/json"
    assert raised.value.type == "invalid_request_error"


def test_other_failures_have_their_own_classes():
    """Wrong keys and full queues, of a server that takes one request at a time."""
    key = "a-key-of-its-own"
    with serving("--max-running", "1", "--max-queued", "1", MOEDGE_API_KEY=key) as address:
        for wrong in ("none", key[:-1]):
            with OpenAI(base_url=address, api_key=wrong, max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError) as raised:
                    client.responses.create(model=MODEL, input="x")
                assert raised.value.code == "invalid_api_key"
        with OpenAI(base_url=address, api_key=key, max_retries=0) as client:
            refused, answered = [], []

            def ask():
                try:
                    fields = {"model": MODEL, "messages": HELLO, "max_tokens": 400}
                    client.chat.completions.create(**fields, extra_body={"logit_bias": {"0": -100}})
                    answered.append(True)
                except openai.RateLimitError as error:
                    refused.append(error)

            threads = [threading.Thread(target=ask) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert answered
            assert {error.code for error in refused} == {"queue_full"}
            assert all(int(error.response.headers["retry-after"]) > 0 for error in refused)
        impatient = OpenAI(base_url=address, api_key=key, max_retries=0, timeout=0.001)
        with impatient as client, pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model=MODEL, messages=HELLO)
    with OpenAI(base_url=address, api_key=key, max_retries=0) as client, pytest.raises(openai.APIConnectionError):
        client.models.list()
