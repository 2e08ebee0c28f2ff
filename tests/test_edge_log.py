"""The log: what a line has, as text and as JSON, and that nobody's words, keys or tools ever stand in it."""

import io
import json
import logging
import re
from datetime import datetime

import pytest
from edge_client import HELLO, chat, chunks_of
from fake_engine import FakeEngine

from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys
from moedge.edge_server.observing.log_format import TEXT, JsonLines, TextLines

MARK = "Xylophon77"  # in everything that is somebody's own
KEY = f"key-{MARK}"


@pytest.fixture(params=["text", "json"])
def written(request):
    """All that any part of the server, or of what it stands on, logs at the level DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if request.param == "json" else TextLines(TEXT))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def failing(prompt):
    return ["Hel", RuntimeError(f"broke on {MARK}")] if "break" in prompt else ["Hel", MARK]


def mark(**fields):
    return {"messages": [{"role": "user", "content": MARK}], **fields}


def test_nothing_of_anybody_is_in_the_log(serve, written):
    client = serve(FakeEngine(failing), Guard(Keys.of([KEY])))
    sent = {"Authorization": f"Bearer {KEY}", "X-Title": MARK, "User-Agent": MARK, "Cookie": MARK, "Origin": MARK}
    tool = {
        "name": "f",
        "description": MARK,
        "parameters": {"type": "object", "properties": {MARK: {"type": "string"}}},
    }
    bodies = [
        *(mark(), mark(stream=True), mark(tools=[{"type": "function", "function": tool}]), mark(stop=MARK)),
        *({**mark(), MARK: 1}, mark(model=MARK), mark(user=MARK), mark(reasoning_effort=MARK), {"messages": MARK}),
        *(mark(response_format={"type": MARK}), mark(chat_template_kwargs={MARK: MARK}), mark(logit_bias={MARK: 1})),
        *(mark(messages=[{"role": MARK, "content": ""}]), {"messages": [{"role": "user", "content": f"break {MARK}"}]}),
        {"messages": [{"role": "user", "content": f"break {MARK}"}], "stream": True},
    ]
    statuses = []
    for body in bodies:
        for path in ("/v1/chat/completions", "/tokenize", "/apply-template"):
            response = client.post(f"{path}?q={MARK}", json=body, headers=sent)
            response.get_data()
            response.close()
            statuses.append(response.status_code)
    for path, body in (("/v1/completions", {"prompt": MARK}), ("/tokenize", {"content": MARK}), ("/tokenize", MARK)):
        client.post(path, json=body, headers=sent).close()
    client.post(
        "/v1/completions", data=f'{{"prompt": "{MARK}", ', content_type="application/json", headers=sent
    ).close()
    client.post("/v1/completions", data=MARK, content_type=f"text/{MARK}", headers=sent).close()
    for headers in ({"x-api-key": MARK}, {"Authorization": f"Basic {MARK}"}, {"Host": f"{MARK}.example"}):
        client.get("/v1/models", headers=headers).close()
    log = written.getvalue()
    assert {200, 400, 404, 500} <= set(statuses)
    assert log.count("/v1/chat/completions") >= len(bodies)
    assert log.count("RuntimeError") >= 2  # what has failed is told all the same, with the lines of code
    assert "in _say" in log
    assert MARK.lower() not in log.lower()


def test_a_line_of_json_has_the_facts_of_its_request(serve, caplog):
    caplog.set_level(logging.DEBUG, "moedge.edge_server.observing.request_log")
    client = serve()
    client.post("/v1/chat/completions", json=HELLO, headers={"X-Request-Id": "abc-1"}).close()
    stream = chat(client, stream=True, n=2)
    chunks_of(stream)
    stream.close()
    chat(client, temperature=9).close()
    client.get("/livez").close()
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    whole, streamed, refused, probe = lines
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
        assert line["ms"] >= 0
    prompt = len("<|user|>hi<|assistant|>")
    facts = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "model": "acme/fake-moe"}
    tokens = {"prompt_tokens": prompt, "cached_tokens": 0, "generated_tokens": 4}
    assert whole.items() >= ({"level": "INFO", "request_id": "abc-1"} | facts | tokens).items()
    assert streamed.items() >= (facts | {"prompt_tokens": prompt, "generated_tokens": 8}).items()
    assert refused["error"] == "invalid_request_error"
    assert refused["status"] == 400
    assert "model" not in refused
    assert (probe["level"], probe["path"]) == ("DEBUG", "/livez")
    assert re.fullmatch(r"POST /v1/chat/completions 200 prompt=23 .* id=abc-1", whole["message"])


def test_an_exception_shows_its_causes_and_its_code_but_not_its_words():
    def fail():
        try:
            json.loads(MARK)
        except ValueError as error:
            raise KeyError(MARK) from error

    for formatter in (JsonLines(), TextLines(TEXT)):
        try:
            fail()
        except KeyError as error:
            record = logging.LogRecord(
                "n", logging.ERROR, __file__, 1, "it failed", (), (KeyError, error, error.__traceback__)
            )
        line = formatter.format(record)
        assert MARK not in line
        assert line.index("json.decoder.JSONDecodeError") < line.index("builtins.KeyError")
        assert "in fail" in line


def test_a_message_of_several_lines_stays_one_line_of_json():
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "two\nlines of %s", ("é",), None)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines of é"
