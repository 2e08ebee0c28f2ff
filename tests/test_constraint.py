"""Answers under a grammar: always one of it, what is forced in one step, over a toy bundle."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from guesses import Free, answer
from tiny_bundle import WORDS, engine_that_says, ids_of, text_of

from moedge.devices.errors import MoedgeError
from moedge.runtime import SamplingParams
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.forms.answer_form import AnswerForm
from moedge.runtime.sampling import MOST_GUESSES
from moedge.runtime.steps import run_step, take_step

SCHEMA = {
    "type": "object",
    "properties": {
        "temperature": {"type": "integer", "minimum": -9, "maximum": 99},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "open": {"type": "boolean"},
    },
    "required": ["temperature", "unit", "open"],
    "additionalProperties": False,
}
OBJECT = AnswerGrammar("json_schema", json.dumps(SCHEMA))
PROMPT = ids_of("hello")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """It knows nothing of JSON."""
    return engine_that_says(tmp_path_factory.mktemp("toy"), "hello wörld!", context_length=256, layout="shared")


def params(grammar=OBJECT, **values):
    return SamplingParams(**{"temperature": 1.0, "seed": 0, "grammar": grammar, **values})


def regex(text):
    return AnswerGrammar("regex", text)


def one_by_one(engine, prompt, params):
    """The answer of a session whose runs have room for one token."""
    session = engine.session()
    session.chunk = 1
    return answer(engine, prompt, params, session)


@pytest.mark.parametrize("seed", range(5))
def test_every_answer_is_one_of_the_schema(engine, seed):
    tokens = list(engine.generate(PROMPT, params(seed=seed)))
    said = json.loads(text_of(tokens))
    assert list(said) == ["temperature", "unit", "open"]
    assert -9 <= said["temperature"] <= 99
    assert isinstance(said["temperature"], int)
    assert said["unit"] in ("celsius", "fahrenheit")
    assert isinstance(said["open"], bool)
    assert tokens[-1].finish_reason == "stop"
    assert tokens[-1].token_id not in engine.eos_token_ids  # nothing could follow: no step was spent on the end


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0},
        {"seed": 3, "top_k": 2},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5},
        {"stop": ("fahren", "celsi")},
        *({"max_tokens": most} for most in (1, 2, 5, 16, 17, 18)),
    ],
    ids=str,
)
def test_in_one_step_or_one_by_one_the_answer_is_the_same(engine, values):
    slow, held, counted = one_by_one(engine, PROMPT, params(**values))
    fast, held_too, counted_too = answer(engine, PROMPT, params(**values))
    assert (fast, held_too) == (slow, held)
    assert counted == counted_too == (0, 0)  # what is forced is no guess
    ids = [token.token_id for token in fast]
    assert held[0] == [*PROMPT, *ids[:-1]]
    assert held[1] == ids[-1]


def test_what_is_forced_is_run_at_once_from_the_prompt_on(engine):
    session = engine.session()
    session.chunk = 100
    generation = engine.generation(session, PROMPT, params())
    first = generation.feed(100)
    assert first == [*PROMPT, *ids_of('{"temperature":')[:MOST_GUESSES]]
    assert generation.ahead == MOST_GUESSES == 14
    runs, tokens = 0, []
    generation = engine.generation(session, PROMPT, params())
    while generation.finish_reason is None:
        tokens += take_step(session, generation, run_step(session, generation))
        runs += 1
    assert len(tokens) > 45
    assert runs < 8


def test_a_long_forced_text_takes_several_runs(engine):
    session = engine.session()
    session.chunk = 100
    tokens, (held, _), _ = answer(engine, PROMPT, params(regex("z{90}")), session)
    assert text_of(tokens) == "z" * 90
    assert len(held) == len(PROMPT) + 89


def test_log_probabilities_are_those_among_the_tokens_that_may_come(engine):
    asking = params(top_logprobs=2)
    fast, slow = answer(engine, PROMPT, asking)[0], one_by_one(engine, PROMPT, asking)[0]
    scores = engine.score([*PROMPT, *(token.token_id for token in fast)])[len(PROMPT) - 1 :]
    constraint = engine.grammars.constraint(OBJECT)
    for token, other, logits in zip(fast, slow, scores, strict=False):
        assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
        if constraint.forced:
            assert token.logprob == 0
        else:
            among = logits[constraint.allowed()]
            assert token.logprob == pytest.approx(logits[token.token_id] - np.logaddexp.reduce(among), abs=1e-4)
        constraint.add(token.token_id)


def test_the_end_may_come_where_the_answer_is_whole(engine):
    grammar = regex("[a-z]+( [a-z]+)*")
    tokens = list(engine.generate(ids_of("hell"), params(regex("o?"), temperature=0)))
    assert text_of(tokens) in ("", "o")
    said = [list(engine.generate(PROMPT, params(grammar, temperature=4.0, seed=seed))) for seed in range(8)]
    for tokens in said:
        text, reason = text_of(tokens), tokens[-1].finish_reason
        assert reason == "length" or re.fullmatch(grammar.text, text)
    ended = [tokens for tokens in said if tokens[-1].finish_reason == "stop"]
    assert ended
    assert all(tokens[-1].token_id in engine.eos_token_ids for tokens in ended)


def test_special_tokens_are_no_text_of_a_grammar(engine):
    constraint = engine.grammars.constraint(regex("[^x]*"))
    allowed = constraint.allowed()
    special = [WORDS.token_to_id(token) for token in ("<|bos|>", "<|user|>", "<think>", "</think>")]
    assert not allowed[special].any()
    assert allowed[ids_of("a")[0]]
    assert not allowed[ids_of("x")[0]]
    assert {i for i in engine.eos_token_ids if allowed[i]} == engine.eos_token_ids
    assert allowed.shape == (engine.manifest.model.vocab_size,)


def test_a_lark_grammar(engine):
    grammar = AnswerGrammar("lark", 'start: "set " room " to " NUMBER\nroom: "kitchen" | "bath"\nNUMBER: /[0-9]{2}/')
    text = text_of(list(engine.generate(PROMPT, params(grammar))))
    assert re.fullmatch(r"set (kitchen|bath) to \d\d", text)


def test_guesses_are_held_to_the_grammar(engine, monkeypatch):
    monkeypatch.setattr(engine, "step_cost", Free())
    grammar = regex("([ab][cd]){16}")
    free = params(grammar, temperature=4.0)
    plain, held, _ = answer(engine, ids_of("acbdacxac"), free)
    tokens, held_too, (tried, right) = answer(engine, ids_of("acbdacxac"), replace(free, prompt_lookup_num_tokens=8))
    assert (tokens, held_too) == (plain, held)
    assert tried > right > 0
    assert re.fullmatch(grammar.text, text_of(tokens))


def test_each_answer_begins_at_the_beginning(engine):
    texts = {text_of(list(engine.generate(PROMPT, params(regex("ab?"), temperature=0)))) for _ in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (regex("("), "not supported: .*unclosed group"),
        (AnswerGrammar("lark", "start: foo"), 'not supported: .*unknown name: "foo"'),
        (AnswerGrammar("json_schema", '{"type": "strin"}'), "not supported: .*strin"),
        (AnswerGrammar("json_schema", '{"$ref": "#/nowhere"}'), "not supported: .*/nowhere"),
        (AnswerGrammar("json_schema", '{"not": {"type": "null"}}'), "not supported: .*not"),
    ],
    ids=str,
)
def test_what_is_no_grammar_is_refused_in_a_sentence(engine, grammar, said):
    with pytest.raises(MoedgeError, match=f"^the grammar is {said}") as refused:
        engine.generate(PROMPT, params(grammar))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 260


@pytest.mark.parametrize(("schema", "said"), [("[1]", "no JSON schema: it must be an object"), ("{", "no JSON: ")])
def test_what_is_no_schema_is_refused_in_a_sentence(engine, schema, said):
    for ask in (
        lambda: engine.grammars.constraint(AnswerGrammar("json_schema", schema)),
        lambda: engine.answer_grammar(PROMPT, AnswerForm(AnswerGrammar("json_schema", schema))),
    ):
        with pytest.raises(MoedgeError, match=rf"^the schema is {said}.*\.$"):
            ask()


def test_a_grammar_that_grows_without_end_fails_in_a_sentence(engine):
    with pytest.raises(MoedgeError, match=r"^the grammar cannot be followed: .*\.$"):
        list(engine.generate(PROMPT, params(regex("^a{1000000}$"))))
