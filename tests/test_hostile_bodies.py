"""Bodies made to break a parser, sent to every route that takes one: a 4xx in JSON, never HTML, never a 5xx."""

import json

import pytest
from fake_engine import FakeEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_edge_requests import BAD_BODIES

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.json_body import MAX_BODY, MAX_DEPTH
from moedge.edge_server.service import Service

MESSAGES = [{"role": "user", "content": "hi"}]
WHOLE = {  # a body that each route takes
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/messages": {"model": "acme/fake-moe", "max_tokens": 4, "messages": MESSAGES},
    "/v1/messages/count_tokens": {"model": "acme/fake-moe", "messages": MESSAGES},
    "/v1/responses": {"input": "hi"},
    "/v1/responses/input_tokens": {"input": "hi"},
    "/tokenize": {"content": "hi"},
    "/detokenize": {"tokens": [1]},
    "/apply-template": {"messages": MESSAGES},
    "/v1/embeddings": {"input": "hi"},
}
EXTRA_BODIES = {
    "null for all": b'{"messages": null, "prompt": null, "input": null, "content": null, "tokens": null}',
    "byte order mark": b'\xef\xbb\xbf{"prompt": "x"}',
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "two objects": b'{"prompt": "x"}{"prompt": "y"}',
    "comment": b'{"prompt": "x" /* hi */}',
    "trailing comma": b'{"prompt": "x",}',
    "single quotes": b"{'prompt': 'x'}",
    "raw newline": b'{"prompt": "a\nb"}',
    "low surrogate": b'{"prompt": "\\udc00 x"}',
    "swapped surrogates": b'{"prompt": "\\udc00\\ud800"}',
    "bytes behind": b'{"prompt": "x"}\x00',
    "leading zero": b'{"prompt": "x", "seed": 007}',
    "plus": b'{"prompt": "x", "seed": +7}',
    "hex": b'{"prompt": "x", "seed": 0x7}',
    "big exponent": b'{"prompt": "x", "temperature": 1e400}',
    "objects deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "escaped duplicate": b'{"prompt": "x", "\\u0070rompt": "y"}',
}


@pytest.fixture(scope="module")
def client():
    service = Service()
    service.open(FakeEngine(lambda prompt: ["a"]))
    yield create_app(service, Guard()).test_client()
    service.close()


@pytest.fixture(scope="module")
def paths(client):
    """All that take a body; a variable part of a path is some id."""
    rules = [rule for rule in client.application.url_map.iter_rules() if "POST" in rule.methods]
    return sorted(rule.rule if not rule.arguments else "/".join(map(_filled, rule.rule.split("/"))) for rule in rules)


def _filled(part):
    return "resp_1" if part.startswith("<") else part


def refused(response, *statuses):
    assert response.status_code in statuses, (response.status_code, response.text[:300])
    assert response.mimetype == "application/json", response.headers
    error = response.json["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    return error


def test_every_route_with_a_body_is_walked(client, paths):
    """Those that are not in `WHOLE` take none, and say that there is no such thing here."""
    assert set(paths) >= set(WHOLE)
    for path in paths:
        if path not in WHOLE:
            refused(client.post(path, json={}), 404)


@pytest.mark.parametrize("name", [*BAD_BODIES, *EXTRA_BODIES])
def test_a_malformed_body_is_a_400_everywhere(client, paths, name):
    body = {**BAD_BODIES, **EXTRA_BODIES}[name]
    for path in paths:
        status = 400 if path in WHOLE else 404
        refused(client.post(path, data=body, content_type="application/json"), status)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        ("multipart/form-data; boundary=x", {}),
        ("text/html", {}),
        ("application/xml", {}),
        ("application/jsonx", {}),
        ("", {}),
        ("application/json", {"Content-Encoding": "gzip"}),
        ("application/json", {"Content-Encoding": "br"}),
        ("application/json", {"Content-Encoding": "identity, gzip"}),
    ],
)
def test_other_bodies_are_a_415_everywhere(client, paths, kind, headers):
    for path in paths:
        body = json.dumps(WHOLE.get(path, {}))
        response = client.post(path, data=body, content_type=kind, headers=headers)
        refused(response, 415 if path in WHOLE else 404)


def test_methods_that_a_route_has_not_are_a_405_everywhere(client):
    for rule in client.application.url_map.iter_rules():
        path = "/".join(map(_filled, rule.rule.split("/")))
        for method in ("PUT", "PATCH", "TRACE", "PROPFIND"):
            response = client.open(path, method=method)
            assert response.status_code == 405, (path, method)
            assert response.mimetype == "application/json"


def test_a_body_that_is_as_deep_as_may_be_is_read(client):
    inner = 1
    for _ in range(MAX_DEPTH - 3):
        inner = [inner]
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, "metadata": inner})
    assert response.status_code == 200, response.text
    for _ in range(4):
        inner = [inner]
    refused(client.post("/v1/chat/completions", json={"messages": MESSAGES, "metadata": inner}), 400)


@pytest.mark.parametrize("part", ["0,", '"[",', '"\\u0061\\"{",'])
def test_four_mebibytes_of_small_values_are_read(client, part):
    body = f'{{"prompt": "x", "a": [{(part * ((MAX_BODY - 64) // len(part)))[:-1]}]}}'
    response = client.post("/v1/completions", data=body, content_type="application/json")
    assert refused(response, 400)["param"] == "a"


@pytest.mark.parametrize("part", ["[],", '{"x":1},', "[[]],"])
def test_a_million_lists_or_objects_are_refused_before_they_are_made(client, part):
    """They would keep all other threads waiting, the probes' too, for seconds."""
    body = f'{{"prompt": "x", "a": [{(part * ((MAX_BODY - 64) // len(part)))[:-1]}]}}'
    response = client.post("/v1/completions", data=body, content_type="application/json")
    assert "lists and objects" in refused(response, 400)["message"]


BOUNDS = [  # field, what is just inside, what is just outside
    ("temperature", (0, 2), (-0.001, 2.001)),
    ("top_p", (0, 1), (-0.001, 1.001)),
    ("min_p", (0, 1), (-0.001, 1.001)),
    ("top_k", (-1, 0, 1 << 31), (-2, (1 << 31) + 1, 0.5)),
    ("seed", (-(1 << 63), 0, (1 << 64) - 1), (-(1 << 63) - 1, 1 << 64, 0.5)),
    ("presence_penalty", (-2, 2), (-2.001, 2.001)),
    ("frequency_penalty", (-2, 2), (-2.001, 2.001)),
    ("repetition_penalty", (0.01, 10), (0.0099, 10.001, 0)),
    ("repeat_penalty", (0.01, 10), (0.0099, 10.001)),
    ("max_tokens", (-1, 1, 1 << 31), (-2, 0, (1 << 31) + 1, 1.5)),
    ("prompt_lookup_num_tokens", (0, 14), (-1, 15, 0.5)),
    ("n", (1, 4), (0, 5, -1, 1.5)),
    ("logit_bias", ({"0": -100, "1": 100}, {}), ({"0": -100.1}, {"1": 100.1}, {"-1": 1}, {str(1 << 14): 1}, {"x": 1})),
    ("stop", ("a", ["a"] * 4, "x" * 256, []), (["a"] * 5, "x" * 257, [""], [1], [None])),
]
WRONG = (True, False, "1", [1], {"a": 1})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(("field", "inside", "outside"), BOUNDS, ids=[name for name, *_ in BOUNDS])
def test_every_number_has_its_bounds(client, path, field, inside, outside):
    for value in inside:
        body = {"max_tokens": 1, **WHOLE[path], field: value}
        assert client.post(path, json=body).status_code == 200, (field, value)
    right = (dict, list, str) if field in ("logit_bias", "stop") else ()
    for value in (*outside, *(wrong for wrong in WRONG if not isinstance(wrong, right))):
        error = refused(client.post(path, json={**WHOLE[path], field: value}), 400)
        assert error["param"].startswith(field), (field, value, error)
        assert field in error["message"]


def test_what_is_too_many_is_refused_by_name(client):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    tools = [{**tool, "function": {**tool["function"], "name": f"f{i}"}} for i in range(129)]
    for field, value in {
        "tools": tools,
        "top_logprobs": 21,
        "logit_bias": {str(i): 1 for i in range(301)},
        "stop": ["a"] * 5,
        "messages": [],
    }.items():
        body = {"messages": MESSAGES, "logprobs": field == "top_logprobs", field: value}
        assert refused(client.post("/v1/chat/completions", json=body), 400)["param"] == field


def _json_values():
    numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
    words = st.sampled_from(["", "user", "assistant", "system", "tool", "function", "text", "auto", "none", "x" * 300])
    leaves = st.one_of(st.none(), numbers, words, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
    names = st.sampled_from(
        ["role", "content", "type", "text", "name", "function", "arguments", "id", "tool_calls", "x"]
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
        max_leaves=8,
    )


FIELDS = sorted({
    *("messages", "prompt", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "top_k", "min_p", "seed", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format", "n"),
    *("logprobs", "top_logprobs", "logit_bias", "reasoning_effort", "chat_template_kwargs", "thinking", "system"),
    *("input", "instructions", "previous_response_id", "store", "text", "reasoning", "include", "content", "tokens"),
    *("best_of", "echo", "suffix", "user", "metadata", "thinking_budget", "stop_sequences", "modalities", "colour"),
})  # fmt: skip


@settings(max_examples=250, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(sorted(WHOLE)),
    change=st.dictionaries(st.sampled_from(FIELDS), _json_values(), max_size=3),
    keeps=st.booleans(),
)
def test_whatever_is_sent_the_answer_is_one_and_nothing_is_left(client, path, change, keeps):
    body = {**(WHOLE[path] if keeps else {}), "max_tokens": 4, **change}
    response = client.post(path, json=body)
    assert response.status_code < 500, (body, response.text[:500])
    if response.mimetype == "text/event-stream":
        assert response.text.rstrip().startswith(("data:", "event:", ":"))
    else:
        assert response.mimetype == "application/json", response.headers
        assert isinstance(response.json, dict)
        assert response.status_code == 200 or response.json["error"]["message"]
    response.close()
