"""Grammars that are too large, tokenizers that fit none, and who waits for whom; over a toy bundle."""

import json
from threading import Event, Thread

import llguidance
import numpy as np
import pytest
from edge_client import HELLO, chat, error_of
from tiny_bundle import engine_that_says, ids_of, text_of

from moedge.devices.errors import MoedgeError
from moedge.runtime import SamplingParams
from moedge.runtime.constraint import MOST_CHARACTERS, AnswerGrammar, Constraint, Grammars
from moedge.runtime.forms.answer_form import AnswerForm
from moedge.runtime.sampling import BrokenLogits

PROMPT = ids_of("hello")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return engine_that_says(tmp_path_factory.mktemp("toy"), "hello", context_length=256, layout="shared")


def optional(count):
    return {"type": "object", "properties": {f"p{i}": {} for i in range(count)}}


def of(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def refusal(client, schema):
    response = chat(client, response_format=of(schema))
    return error_of(response, 400)["message"]


def test_answers_do_not_wait_for_a_grammar_of_others(engine, monkeypatch):
    known, slow = AnswerGrammar("regex", "known"), AnswerGrammar("regex", "slow")
    engine.grammars.constraint(known)
    compiling, answered = Event(), Event()
    compile_ = Grammars._compile

    def wait(self, grammar):
        compiling.set()
        assert answered.wait(30)
        return compile_(self, grammar)

    monkeypatch.setattr(Grammars, "_compile", wait)
    other = Thread(target=engine.grammars.constraint, args=(slow,))
    other.start()
    assert compiling.wait(30)
    got = []
    answer = Thread(target=lambda: got.append(engine.grammars.constraint(known)))
    answer.start()
    answer.join(5)
    assert len(got) == 1
    answered.set()
    other.join(30)
    answer.join(30)


def test_a_schema_has_a_size(serve, engine):
    told = refusal(serve(engine), {"description": "x" * MOST_CHARACTERS})
    assert f"{MOST_CHARACTERS} are the most" in told


def test_many_optional_properties_are_held_to(engine):
    prompt = engine.encode_chat(HELLO["messages"])
    form = AnswerForm(AnswerGrammar("json_schema", json.dumps(optional(900))))
    grammar = engine.answer_grammar(prompt, form)
    tokens = list(engine.generate(PROMPT, SamplingParams(seed=0, max_tokens=8, grammar=grammar)))
    assert len(tokens) > 1
    assert text_of(tokens).startswith("{")


@pytest.mark.parametrize("schema", [optional(2600), optional(2600) | {"type": ["object", "null"]}])
def test_too_many_optional_properties_are_refused_at_once(serve, engine, schema):
    assert "too many optional properties" in refusal(serve(engine), schema)


def test_a_tokenizer_that_fits_no_grammar_is_told_in_a_sentence(serve, engine, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("unsupported decoder type: WordPiece")

    monkeypatch.setattr(engine, "grammars", Grammars(engine.tokenizer, engine.manifest.model.vocab_size, [0]))
    monkeypatch.setattr(llguidance, "LLTokenizer", refuse)
    told = refusal(serve(engine), optional(1))
    assert told.lower() == "this model's tokenizer cannot be held to a schema (unsupported decoder type: wordpiece)."


def test_a_real_tokenizer_that_is_too_small_is_told_too(engine):
    with pytest.raises(MoedgeError, match=r"^this model's tokenizer cannot be held to a schema "):
        Grammars(engine.tokenizer, 3, [0]).constraint(AnswerGrammar("regex", "a"))


def test_where_nothing_may_come_next_the_bundle_is_not_to_blame(engine, monkeypatch):
    monkeypatch.setattr(Constraint, "allowed", lambda self: np.zeros(self._vocab_size, np.bool_))
    params = SamplingParams(grammar=AnswerGrammar("regex", "[ab]"))
    with pytest.raises(MoedgeError, match=r"^the grammar cannot be followed: no token") as raised:
        list(engine.generate(PROMPT, params))
    assert not isinstance(raised.value, BrokenLogits)
