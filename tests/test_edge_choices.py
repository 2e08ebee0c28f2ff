"""Several answers to a prompt, several prompts in a request, and log probabilities of what is said."""

import codecs
import json
from itertools import pairwise

import pytest
from edge_client import CALL, TOOLS, chat, chunks_of, error_of, pieces
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from moedge.edge_server.logprobs import TokenTexts
from moedge.runtime.generation import Token

TWO = {"n": 2, "logprobs": True, "top_logprobs": 2}


def spelled(choice):
    return "".join(entry["token"] for entry in choice["logprobs"]["content"])


def test_each_of_several_answers_has_its_place(serve):
    body = chat(serve(), n=3).json
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"Hello!"}
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (23, 12)


def test_several_answers_stream_side_by_side(serve):
    chunks = chunks_of(chat(serve(), n=2, stream=True, stream_options={"include_usage": True}))
    texts, ends = {0: "", 1: ""}, {}
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content") or ""
        if choice["finish_reason"]:
            assert choice["index"] not in ends
            ends[choice["index"]] = choice["finish_reason"]
    assert (texts, ends) == ({0: "Hello!", 1: "Hello!"}, {0: "stop", 1: "stop"})
    assert chunks[-1]["usage"]["completion_tokens"] == 8


def test_one_failure_ends_all_answers(serve):
    engine = FakeEngine(lambda prompt: ["a", ValueError("boom")])
    assert error_of(chat(serve(engine), n=2), 500)["code"] == "internal_error"
    assert chat(serve(FakeEngine()), n=2).status_code == 200


def test_more_answers_than_places_are_refused(serve):
    client = serve(FakeEngine(), max_running=1, max_queued=1)
    assert "3 answers take as many places" in error_of(chat(client, n=3), 400)["message"]
    assert chat(client, n=2).status_code == 200


def test_each_prompt_has_its_answers_in_order(serve):
    engine = FakeEngine(lambda prompt: [f"{prompt}{prompt}"])
    body = {"prompt": ["a", "b", [99]], "n": 2, "echo": True}
    got = serve(engine).post("/v1/completions", json=body).json
    assert [choice["text"] for choice in got["choices"]] == ["aaa", "aaa", "bbb", "bbb", "ccc", "ccc"]
    assert [choice["index"] for choice in got["choices"]] == [*range(6)]
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (3, 12)


@pytest.mark.parametrize("stream", [False, True])
def test_the_tokens_of_a_completion_are_its_text(serve, stream):
    response = serve().post("/v1/completions", json={"prompt": "x", "logprobs": 2, "echo": False, "stream": stream})
    parts = [chunk["choices"][0] for chunk in chunks_of(response)] if stream else response.json["choices"]
    told = [part["logprobs"] for part in parts]
    tokens = [token for each in told for token in each["tokens"]]
    assert (tokens, "".join(part["text"] for part in parts)) == (["Hel", "lo", "!"], "Hello!")
    assert [offset for each in told for offset in each["text_offset"]] == [0, 3, 5]
    assert all(chance == 0 for each in told for chance in each["token_logprobs"])
    assert [max(others, key=others.get) for each in told for others in each["top_logprobs"]] == tokens


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("stream", [False, True])
def test_the_tokens_of_a_chat_are_its_content_alone(serve, size, stream):
    engine = FakeEngine(lambda prompt: pieces(CALL, size))
    response = chat(serve(engine), tools=TOOLS, logprobs=True, top_logprobs=1, stream=stream)
    choices = [chunk["choices"][0] for chunk in chunks_of(response)] if stream else response.json["choices"]
    told = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    assert "".join(entry["token"] for entry in told) == "Sure."
    assert bytes(byte for entry in told for byte in entry["bytes"]) == b"Sure."
    assert all(len(entry["top_logprobs"]) == 1 for entry in told)


def test_a_stop_string_cuts_the_last_token(serve):
    engine = FakeEngine(lambda prompt: ["one ", "two three", " four"])
    (choice,) = chat(serve(engine), logprobs=True, stop="three").json["choices"]
    assert (choice["message"]["content"], spelled(choice)) == ("one two ", "one two ")
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["one ", "two "]


def test_a_chunk_has_the_tokens_of_its_text(serve):
    for chunk in chunks_of(chat(serve(), stream=True, **TWO)):
        (choice,) = chunk["choices"]
        if choice["delta"].get("content"):
            assert spelled(choice) == choice["delta"]["content"]
        else:
            assert choice["logprobs"] is None
    json.dumps(chunk)


class Characters:
    """A tokenizer whose tokens are single bytes."""

    def token_bytes(self, token_id):
        return bytes([token_id])

    def bytes_in_text(self, token_id, text):
        return bytes([token_id])


@given(st.text(max_size=20), st.lists(st.integers(0, 20)))
def test_bytes_of_characters_join_to_the_text(text, cuts):
    """Tokens that are parts of characters: the last of a character has its text, each its own byte."""
    texts, told = TokenTexts(Characters()), []
    decoder = codecs.getincrementaldecoder("utf-8")()
    for byte in text.encode():
        texts.add(Token(byte, "", None, -1.0, (), decoder.decode(bytes([byte]))))
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(places):
        told += texts.pass_over(text[start:end])
    assert "".join(entry.text for entry in told) == text
    assert b"".join(entry.bytes for entry in told) == text.encode()


@given(st.lists(st.tuples(st.booleans(), st.text("abc<>", min_size=1, max_size=5)), max_size=8), st.integers(1, 6))
def test_what_is_not_said_is_passed_over(parts, size):
    """Marked parts are said; the others stand between them, in bars, which are never said."""
    spelled_all = "".join(text if said else f"|{text}|" for said, text in parts)
    texts = TokenTexts(Characters())
    for piece in pieces(spelled_all, size):
        texts.add(Token(1, "", None, -1.0, (), piece))
    for said, text in parts:
        found = "".join(entry.text for entry in texts.pass_over(text))
        assert found == text or not said
