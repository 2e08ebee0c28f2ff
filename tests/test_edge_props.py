"""What clients ask before they talk: /props, /health, /tokenize, /detokenize, /apply-template."""

import json
import shutil

import pytest
from edge_client import HELLO, TOOLS, error_of
from fake_engine import FakeEngine

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime.manifest import TEMPLATE_NAME

PROMPT = "<|user|>hi<|assistant|>"


def test_health_is_ready(serve):
    client = serve()
    assert client.get("/health").json == {"status": "ok"}
    loading = create_app(Service(), Guard()).test_client()
    assert error_of(loading.get("/health"), 503)["code"] == "loading"


def test_props_of_a_bundle_tell_what_it_is_and_no_path(serve, engine, tmp_path):
    props = serve(engine, max_running=3).get("/props").json
    facts = engine.manifest.model
    assert props["context_length"] == props["default_generation_settings"]["n_ctx"] == facts.context_length
    assert (props["layers"], props["experts"]) == (facts.num_hidden_layers, facts.num_experts)
    assert props["experts_per_token"] == facts.num_experts_per_tok
    assert props["model"] == props["model_path"] == props["model_alias"] == engine.manifest.name
    assert props["models"] == [engine.manifest.name]
    assert (props["total_slots"], props["max_queued"]) == (3, 16)
    assert props["plan"] == engine.manifest.experts.plan
    assert props["device_profile"] == engine.profile.name
    assert props["sampling_defaults"]["temperature"] == engine.defaults.temperature
    assert (
        props["has_chat_template"] == (engine.folder / TEMPLATE_NAME).exists() == (props["chat_template"] is not None)
    )
    assert str(tmp_path) not in json.dumps(props)
    shutil.rmtree(engine.folder)
    assert serve(engine).get("/props").status_code == 200


@pytest.mark.parametrize(
    ("chat_format", "thinks", "calls"), [("kimi_k2", True, True), ("plain", False, False), ("gpt_oss", True, True)]
)
def test_props_tell_what_the_chat_format_can(serve, chat_format, thinks, calls):
    props = serve(FakeEngine(chat_format=chat_format)).get("/props").json
    assert (props["chat_format"], props["thinks"], props["calls_tools"]) == (chat_format, thinks, calls)


def test_props_of_another_model_are_a_404_and_other_questions_a_400(serve):
    client = serve()
    assert client.get("/props?model=acme/fake-moe").json["model"] == "acme/fake-moe"
    assert error_of(client.get("/props?model=x"), 404)["code"] == "model_not_found"
    assert error_of(client.get("/props?autoload=1"), 400)["param"] == "autoload"


def test_a_text_becomes_the_tokens_that_a_completion_reads(serve):
    client = serve()
    assert client.post("/tokenize", json={"content": "hé"}).json == {
        "tokens": [104, 233],
        "count": 2,
        "max_model_len": 4096,
    }
    answer = client.post("/tokenize", json={"prompt": "hé", "return_token_strs": True, "model": "acme/fake-moe"}).json
    assert answer["token_strs"] == ["h", "é"]
    usage = client.post("/v1/completions", json={"prompt": "hé"}).json["usage"]
    assert usage["prompt_tokens"] == answer["count"]


def test_a_real_tokenizer_adds_what_each_spelling_says_and_special_tokens_stay_text(serve, engine):
    client, tokenizer = serve(engine), engine.tokenizer

    def ids(**body):
        return client.post("/tokenize", json=body).json["tokens"]

    text = "hello" + "".join(tokenizer.special_tokens[:1])
    assert ids(content=text) == tokenizer.encode(text)
    assert ids(prompt=text) == engine.encode(text)
    assert ids(content=text, add_special=True) == ids(content=text, add_special_tokens=True) == engine.encode(text)
    assert ids(prompt=text, add_special_tokens=False) == ids(content=text)
    assert ids(content=text, parse_special=True) == tokenizer.encode(text, allow_special=True)
    pieces = client.post("/tokenize", json={"content": "ö€", "with_pieces": True}).json["tokens"]
    spelled = [p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces]
    assert b"".join(spelled).decode() == "ö€"
    assert client.post("/detokenize", json={"tokens": ids(content="wörld! €")}).json["content"] == "wörld! €"


def test_a_chat_is_counted_as_it_will_be(serve):
    client = serve()
    for fields in ({}, {"tools": TOOLS}, {"messages": [{"role": "system", "content": "é"}, *HELLO["messages"]]}):
        body = HELLO | fields
        counted = client.post("/tokenize", json=body).json
        assert counted["count"] == client.post("/v1/chat/completions", json=body).json["usage"]["prompt_tokens"]
        text = client.post("/apply-template", json=body).json["prompt"]
        assert client.post("/detokenize", json={"tokens": counted["tokens"]}).json == {"content": text, "prompt": text}
    assert client.post("/apply-template", json=HELLO).json == {"prompt": PROMPT}
    bare = client.post("/apply-template", json=HELLO | {"add_generation_prompt": False}).json
    assert bare == {"prompt": "<|user|>hi"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": "a", "prompt": "b"}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HELLO["messages"]}, "messages"),
        ("/tokenize", {"content": ["a"]}, "content"),
        ("/tokenize", {"content": "x" * 5000}, "content"),
        ("/tokenize", {"content": "a", "add_special": 1}, "add_special"),
        ("/tokenize", {"content": "a", "add_special": True, "add_special_tokens": False}, "add_special_tokens"),
        ("/tokenize", {"content": "a", "tools": TOOLS}, "tools"),
        ("/tokenize", HELLO | {"add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", HELLO | {"parse_special": True}, "parse_special"),
        ("/tokenize", HELLO | {"chat_template": "{{ 1 }}"}, "chat_template"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens"),
        ("/detokenize", {"tokens": [0x4000]}, "tokens"),
        ("/detokenize", {"tokens": [1] * 5000}, "tokens"),
        ("/apply-template", {"prompt": "a"}, "messages"),
        ("/apply-template", HELLO | {"chat_template": "x"}, "chat_template"),
        ("/apply-template", HELLO | {"continue_final_message": True}, "continue_final_message"),
    ],
)
def test_what_does_not_fit_is_named(serve, path, body, param):
    assert error_of(serve().post(path, json=body), 400)["param"] == param


def test_a_model_that_calls_no_tools_is_not_shown_any(serve):
    client = serve(FakeEngine(chat_format="plain"))
    for path in ("/tokenize", "/apply-template"):
        assert error_of(client.post(path, json=HELLO | {"tools": TOOLS}), 400)["param"] == "tools"


def test_no_tokens_are_an_empty_text(serve):
    client = serve()
    assert client.post("/detokenize", json={"tokens": []}).json["content"] == ""
    assert client.post("/tokenize", json={"content": ""}).json["count"] == 0
