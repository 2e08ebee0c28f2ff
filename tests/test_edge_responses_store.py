"""Responses that are kept: what GET and DELETE tell of them, for how long, and to whom."""

import pytest
from edge_client import error_of
from fake_engine import FakeEngine
from flask import g

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.responses.responses_store import ResponseStore
from moedge.edge_server.service import Service


def respond(client, **fields):
    response = client.post("/v1/responses", json=fields)
    assert response.status_code == 200, response.text
    return response.json


@pytest.fixture
def client(serve):
    return serve(FakeEngine(lambda prompt: ["one"]))


def test_a_kept_response_is_as_it_was_sent_until_it_is_deleted(client):
    first = respond(client, input="go", metadata={"k": "v"})
    assert client.get(f"/v1/responses/{first['id']}").json == first
    second = respond(client, input="on", previous_response_id=first["id"])
    assert client.delete(f"/v1/responses/{first['id']}").json == {
        "id": first["id"],
        "object": "response",
        "deleted": True,
    }
    for response in (client.get, client.delete):
        error_of(response(f"/v1/responses/{first['id']}"), 404)
    error = error_of(client.post("/v1/responses", json={"input": "x", "previous_response_id": first["id"]}), 400)
    assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")
    items = client.get(f"/v1/responses/{second['id']}/input_items?order=asc").json["data"]
    assert [item["role"] for item in items] == ["user", "assistant", "user"]
    assert error_of(client.post(f"/v1/responses/{second['id']}/cancel"), 400)["param"] == "response_id"


def test_store_false_keeps_nothing(client):
    made = respond(client, input="go", store=False)
    error_of(client.get(f"/v1/responses/{made['id']}"), 404)
    item = {"type": "item_reference", "id": made["output"][0]["id"]}
    assert error_of(client.post("/v1/responses", json={"input": [item]}), 400)["param"] == "input[0].id"


def test_input_items_come_in_pages(client):
    path = f"/v1/responses/{respond(client, input=[{'role': 'user', 'content': str(n)} for n in range(5)])['id']}"
    texts, after = [], None
    for more in (True, True, False):
        query = {"limit": 2, "order": "asc"} | ({} if after is None else {"after": after})
        page = client.get(f"{path}/input_items", query_string=query).json
        assert (page["object"], page["has_more"]) == ("list", more)
        assert [page["first_id"], page["last_id"]] == [page["data"][0]["id"], page["data"][-1]["id"]]
        texts += [item["content"][0]["text"] for item in page["data"]]
        after = page["last_id"]
    assert texts == ["0", "1", "2", "3", "4"]
    latest = client.get(f"{path}/input_items").json["data"]
    assert [item["content"][0]["text"] for item in latest] == ["4", "3", "2", "1", "0"]
    beyond = client.get(f"{path}/input_items?order=asc&after={after}").json
    assert (beyond["data"], beyond["first_id"], beyond["has_more"]) == ([], None, False)
    for query, param in {
        "limit=0": "limit",
        "limit=x": "limit",
        "order=up": "order",
        "after=x": "after",
        "x=1": "x",
    }.items():
        assert error_of(client.get(f"{path}/input_items?{query}"), 400)["param"] == param
    assert error_of(client.get(f"{path}?stream=true"), 400)["param"] == "stream"
    assert error_of(client.get(f"{path}?include[]=x"), 400)["param"] == "include[0]"
    assert client.get(f"{path}?include[]=message.output_text.logprobs&stream=false").status_code == 200


def test_ids_that_come_twice_are_told_apart(client):
    item = {"type": "message", "id": "msg_x", "role": "user", "content": "a"}
    made = respond(client, input=[item, {**item, "content": "b"}, {**item, "id": "no id at all!"}])
    ids = [each["id"] for each in client.get(f"/v1/responses/{made['id']}/input_items?order=asc").json["data"]]
    assert ids[0] == "msg_x"
    assert len(set(ids)) == 3
    assert all(each.startswith("msg_") for each in ids)


def test_one_owners_responses_are_nobody_elses():
    service = Service()
    service.open(FakeEngine())
    app = create_app(service, Guard())

    @app.before_request
    def own():
        g.owner = app.config["OWNER"]

    client = app.test_client()
    app.config["OWNER"] = "ann"
    made = respond(client, input="go")
    item = {"type": "item_reference", "id": made["output"][0]["id"]}
    app.config["OWNER"] = "bob"
    for path in ("", "/input_items"):
        error_of(client.get(f"/v1/responses/{made['id']}{path}"), 404)
    error_of(client.delete(f"/v1/responses/{made['id']}"), 404)
    for fields in ({"input": "x", "previous_response_id": made["id"]}, {"input": [item]}):
        error_of(client.post("/v1/responses", json=fields), 400)
    app.config["OWNER"] = "ann"
    assert client.get(f"/v1/responses/{made['id']}").json == made
    service.close()


def test_the_longest_unused_is_given_up_first():
    store = ResponseStore(most=2)
    item = {"id": "msg_1", "text": "x"}
    for name in "ab":
        store.keep("", {"id": name, "output": []}, [item])
    assert store.find("", "a") is not None
    store.keep("", {"id": "c", "output": []}, [])
    assert [store.find("", name) is not None for name in "abc"] == [True, False, True]
    assert store.item("", "msg_1").item == item
    assert store.forget("", "a")
    assert store.item("", "msg_1") is None, "nothing refers to it any more"
    assert not store.forget("", "a")


def test_bytes_are_bounded():
    store = ResponseStore(most_bytes=10_000)
    for number in range(50):
        item = {"id": f"msg_{number}", "text": "x" * 900}
        store.keep("", {"id": str(number), "output": []}, [item])
    kept = [number for number in range(50) if store.find("", str(number))]
    assert kept == [*range(50 - len(kept), 50)]
    assert 9 <= len(kept) <= 10
    store.keep("", {"id": "big", "output": []}, [{"id": "msg", "text": "x" * 20_000}])
    assert [number for number in kept if store.find("", str(number))] == []
    assert store.find("", "big") is not None, "the latest can always be followed"
