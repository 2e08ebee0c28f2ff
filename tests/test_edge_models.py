"""Several models behind one endpoint: loaded on demand, once, within bounds; let go when idle or in the way."""

import gc
import time
import weakref

import pytest
from edge_client import HELLO, error_of, events_of
from edge_models import Asking, Shelf
from live_server import wait_for

from moedge.edge_server.errors import ApiError
from moedge.edge_server.models import residents
from moedge.edge_server.service import Service


@pytest.fixture
def shelf(monkeypatch):
    made = []

    def shelf(sizes, **settings):
        made.append(Shelf(sizes, monkeypatch, **settings))
        return made[-1]

    yield shelf
    for each in made:
        each.close()


def said(response):
    assert response.status_code == 200, response.text
    return response.json["model"], response.json["choices"][0]["message"]["content"]


def test_a_model_is_loaded_by_the_first_request_that_names_it(shelf):
    two = shelf({"a": 10, "b": 10})
    assert two.there == set()
    assert said(two.chat(model="b")) == ("b", "I am b")
    assert two.there == {"b"}
    assert said(two.chat()) == ("a", "I am a")  # who names none gets the first
    assert said(two.chat(model="b")) == ("b", "I am b")
    assert two.loads == ["b", "a"]


def test_a_model_answers_to_its_aliases_under_its_own_name(shelf):
    two = shelf({"a": 10, "b": 10}, aliases=("gpt-4o-mini", "x/y"))
    assert said(two.chat(model="gpt-4o-mini")) == ("a", "I am a")
    assert two.loads == ["a"]
    listed = two.client.get("/v1/models").json["data"]
    assert [(each["id"], each["root"], each["loaded"]) for each in listed] == [
        ("a", "a", True),
        ("gpt-4o-mini", "a", True),
        ("x/y", "a", True),
        ("b", "b", False),
    ]
    assert two.client.get("/v1/models/x/y").json == listed[2]
    assert two.client.get("/v1/models/b").json == listed[3]
    assert {each["context_length"] for each in listed} == {4096}
    for response in (two.chat(model="c" * 5000), two.client.get("/v1/models/other")):
        error = error_of(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert error["message"].endswith("this server has 'a', 'gpt-4o-mini', 'x/y', 'b'.")
        assert len(error["message"]) < 400
    assert two.loads == ["a"]


def test_requests_for_a_model_that_is_being_loaded_wait_and_do_not_load_it_twice(shelf):
    two = shelf({"a": 10, "b": 10})
    two.gate.clear()
    asking = [Asking(two, model=name) for name in ("a", "a", "b", "a")]
    wait_for(lambda: sum(model.waiting for model in two.models) == 4)
    listed = {each["id"]: each["loaded"] for each in two.client.get("/v1/models").json["data"]}
    assert sorted(map(str, listed.values())) == ["False", "loading"]  # one at a time
    assert two.client.get("/readyz").status_code == two.client.get("/livez").status_code == 200
    two.gate.set()
    assert [said(each.answer())[0] for each in asking] == ["a", "a", "b", "a"]
    assert sorted(two.loads) == ["a", "b"]


def test_a_wait_is_bounded_and_the_load_goes_on(shelf):
    one = shelf({"a": 10}, load_wait_s=0.05)
    one.gate.clear()
    response = one.chat()
    assert error_of(response, 503)["code"] == "loading"
    assert int(response.headers["Retry-After"]) >= 1
    one.gate.set()
    wait_for(lambda: one.there)
    assert said(one.chat())[0] == "a"
    assert one.loads == ["a"]


def test_so_many_wait_as_have_places(shelf):
    one = shelf({"a": 10}, max_running=1, max_queued=1)
    one.gate.clear()
    waiting = [Asking(one) for _ in range(2)]
    wait_for(lambda: one.models[0].waiting == 2)
    response = one.chat()
    assert error_of(response, 429)["code"] == "queue_full"
    assert int(response.headers["Retry-After"]) >= 1
    one.gate.set()
    assert {said(each.answer())[0] for each in waiting} == {"a"}


def test_a_client_that_leaves_does_not_wait_on(shelf):
    one = shelf({"a": 10})
    one.gate.clear()
    gone = {"waitress.client_disconnected": lambda: True}
    assert one.client.post("/v1/chat/completions", json=HELLO, environ_overrides=gone).status_code == 499
    assert one.models[0].waiting == one.models[0].leases == 0


def test_what_waits_is_refused_once_the_server_drains(shelf):
    one = shelf({"a": 10})
    one.gate.clear()
    waiting = Asking(one)
    wait_for(lambda: one.models[0].waiting == 1)
    one.service.stop_accepting()
    assert error_of(waiting.answer(), 503)["code"] == "shutting_down"
    assert one.service.idle  # a drain does not wait for a load
    one.service.close()
    one.gate.set()
    wait_for(lambda: not one.models[0].moving)
    assert one.there == set()


def test_a_model_that_does_not_load_is_told_and_tried_again_later(shelf, monkeypatch, caplog):
    two = shelf({"a": 10, "b": 10})
    two.damaged = {"a"}
    for _ in range(2):
        response = two.chat()
        error = error_of(response, 503)
        assert error["code"] == "model_failed"
        assert "secret" not in response.text  # where it lies is not the clients' business
        assert 1 <= int(response.headers["Retry-After"]) <= residents.FAILED_RETRY_S
    assert "Bundle /secret/a is not intact" in caplog.text
    assert two.loads == ["a"]
    assert said(two.chat(model="b"))[0] == "b"
    two.damaged.clear()
    monkeypatch.setattr(residents, "FAILED_RETRY_S", 0)
    assert said(two.chat())[0] == "a"


def test_a_load_that_fails_in_an_unforeseen_way_keeps_nobody_waiting(shelf, monkeypatch, caplog):
    one = shelf({"a": 10})
    monkeypatch.setattr(one.residents, "_load", lambda *_: 1 // 0)
    assert error_of(one.chat(), 503)["code"] == "model_failed"
    assert "ZeroDivisionError" in caplog.text
    assert not one.models[0].moving


def test_idle_models_make_room_the_least_recently_used_first(shelf):
    three = shelf({"a": 400, "b": 400, "c": 500}, megabytes=1000)
    for name in ("b", "a", "c"):
        three.chat(model=name)
    assert three.there == {"a", "c"}
    three.chat(model="a")
    three.chat(model="b")
    assert three.there == {"a", "b"}
    assert three.loads == ["b", "a", "c", "b"]


def test_many_who_ask_for_more_models_than_fit_are_all_answered(shelf):
    three = shelf({"a": 400, "b": 400, "c": 400}, megabytes=1000)
    there = []
    load = three.residents._load

    def watched(*arguments):
        there.append(len(three.there) + 1)
        return load(*arguments)

    three.residents._load = watched
    names = [name for _ in range(4) for name in "abcab"]
    asking = [Asking(three, model=name, stream=False) for name in names]
    assert [said(each.answer()) for each in asking] == [(name, f"I am {name}") for name in names]
    assert max(there) == 2
    assert all(model.leases == model.waiting == 0 for model in three.models)


def test_a_model_that_answers_is_not_put_out(shelf):
    two = shelf({"a": 600, "b": 500}, megabytes=1000)
    two.chat()
    two.residents._load_wait_s = 0.2
    two.engines[0][1].gate.clear()
    stream = two.client.post("/v1/chat/completions", json={**HELLO, "stream": True}, buffered=False)
    response = two.chat(model="b")
    error = error_of(response, 503)
    assert "b needs about 501.0 MB" in error["message"]
    assert "a (600.0 MB)" in error["message"]
    assert "1.0 GB" in error["message"]
    two.residents._load_wait_s = 20
    waiting = Asking(two, model="b")
    wait_for(lambda: two.models[1].waiting == 1)
    two.engines[0][1].gate.set()
    assert events_of(stream)[-1] == "[DONE]"
    stream.close()
    assert said(waiting.answer())[0] == "b"
    assert two.there == {"b"}


def test_a_request_keeps_its_model_until_its_answer_is_sent(shelf):
    two = shelf({"a": 600, "b": 500}, megabytes=1000)
    stream = two.client.post("/v1/chat/completions", json={**HELLO, "stream": True}, buffered=False)
    two.residents._load_wait_s = 0.1
    a = two.models[0]
    wait_for(lambda: a.loaded.scheduler.idle)  # all is computed, and nobody has read it
    assert error_of(two.chat(model="b"), 503)["code"] == "loading"
    assert events_of(stream)[-1] == "[DONE]"
    stream.close()
    assert a.leases == 0
    two.residents._load_wait_s = 20
    assert said(two.chat(model="b"))[0] == "b"


@pytest.mark.parametrize("body", [{"messages": 5}, {"prompt": 3}, {**HELLO, "tempreture": 1}, {**HELLO, "model": 7}])
def test_a_request_that_is_refused_gives_its_model_back(shelf, body):
    one = shelf({"a": 10})
    for path in ("/v1/chat/completions", "/v1/completions"):
        error_of(one.client.post(path, json=body, buffered=True), 400)
    assert one.models[0].leases == 0


def test_low_memory_may_be_allowed(shelf, caplog):
    two = shelf({"a": 600, "b": 500}, megabytes=1000)
    b = two.models[1]
    object.__setattr__(b.settings, "allow_low_memory", True)
    two.chat()
    two.engines[0][1].gate.clear()
    stream = two.client.post("/v1/chat/completions", json={**HELLO, "stream": True}, buffered=False)
    assert said(two.chat(model="b"))[0] == "b"
    assert "the system may end moedge" in caplog.text
    two.engines[0][1].gate.set()
    assert events_of(stream)[-1] == "[DONE]"
    stream.close()


def test_a_model_that_was_idle_for_long_is_unloaded_and_nothing_of_it_stays(shelf):
    one = shelf({"a": 10}, unload_after_s=0.05)
    assert said(one.chat()) == ("a", "I am a")
    seen = weakref.ref(one.engines.pop()[1])
    wait_for(lambda: not one.there)
    wait_for(lambda: gc.collect() >= 0 and seen() is None)  # it leaves what requests are given before it ends
    assert one.client.get("/readyz").status_code == 200
    assert said(one.chat()) == ("a", "I am a")
    one.engines[-1][1].gate.clear()
    stream = one.client.post("/v1/chat/completions", json={**HELLO, "stream": True}, buffered=False)
    time.sleep(0.3)
    assert one.there == {"a"}
    one.engines[-1][1].gate.set()
    assert events_of(stream)[-1] == "[DONE]"
    stream.close()


def test_a_model_that_hangs_stays_where_livez_sees_it(shelf, monkeypatch):
    two = shelf({"a": 600, "b": 500}, megabytes=1000)
    two.chat()
    two.residents._load_wait_s = 0.05
    monkeypatch.setattr(type(two.models[0].loaded.scheduler), "healthy", property(lambda self: False))
    assert error_of(two.client.get("/livez"), 503)["code"] == "engine_failed"
    assert error_of(two.client.get("/readyz"), 503)["code"] == "engine_failed"
    assert error_of(two.chat(), 503)["code"] == "engine_failed"
    error_of(two.chat(model="b"), 503)
    assert two.there == {"a"}


def test_what_only_looks_loads_nothing(shelf):
    two = shelf({"a": 10, "b": 10})
    assert two.client.get("/experts?model=b").json["layers"] == []
    assert error_of(two.client.get("/experts?model=c"), 404)["code"] == "model_not_found"
    with pytest.raises(ApiError) as raised:
        two.service.loaded_now("b")
    assert (raised.value.status, raised.value.code) == (503, "model_not_loaded")
    assert two.loads == []
    assert Service().all_loaded == ()
