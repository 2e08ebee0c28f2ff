"""GET /experts: the counts of the kernels as JSON, and why there are none."""

import base64
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from edge_client import error_of
from fake_engine import FakeEngine
from kernel_graphs import expert_attributes, experts, open_experts
from native import needs_kernels

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys
from moedge.edge_server.service import Service
from moedge.runtime.expert_counts import ExpertCounts, ExpertTotals
from moedge.runtime.kernels.library import open_library

COUNTS = np.array([[5, 0, 1], [2, 2, (1 << 32) + 2]], np.uint64)


class WrittenCounts:
    def __init__(self, totals):
        self.totals = totals

    def read(self):
        return self.totals


def engine_of(plan="native", num_experts=3, totals=None):
    engine = FakeEngine()
    facts = replace(engine.manifest.model, moe_layers=2, num_experts=num_experts, num_experts_per_tok=2)
    engine.manifest = replace(engine.manifest, model=facts, experts=replace(engine.manifest.experts, plan=plan))
    engine.program.expert_counts = None if totals is None else WrittenCounts(totals)
    return engine


@pytest.fixture
def client(serve):
    return serve(engine_of(totals=ExpertTotals((1, 3), COUNTS, 3)))


def test_counts_are_lists_or_one_text(client):
    body = client.get("/experts").json
    resident = body.pop("resident_bytes")
    assert body == {
        "object": "experts",
        "model": "acme/fake-moe",
        "counted": True,
        "reason": None,
        "moe_layers": 2,
        "experts": 3,
        "experts_per_token": 2,
        "layers": [1, 3],
        "tokens": 3,
        "counts": COUNTS.tolist(),
    }
    assert resident > 1 << 20
    response = client.get("/experts?encoding=base64&model=acme/fake-moe")
    assert response.headers["Cache-Control"] == "no-store"
    packed = np.frombuffer(base64.b64decode(response.json["counts"]), "<u4").reshape(2, 3)
    assert packed.tolist() == [[5, 0, 1], [2, 2, 2]], "modulo 2^32"


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (engine_of("fused"), "of the fused plan"),
        (engine_of("if"), "of the if plan"),
        (engine_of("native", 0), "no experts"),
    ],
)
def test_where_nothing_counts_it_says_why(serve, engine, words):
    body = serve(engine).get("/experts?encoding=base64").json
    assert (body["counted"], body["layers"], body["tokens"], body["counts"]) == (False, [], 0, "")
    assert words in body["reason"]


def test_what_it_does_not_know_is_refused(client):
    assert error_of(client.get("/experts?since=3"), 400)["param"] == "since"
    assert error_of(client.get("/experts?encoding=xml"), 400)["param"] == "encoding"
    assert error_of(client.get("/experts?model=other"), 404)["code"] == "model_not_found"
    assert error_of(client.post("/experts", json={}), 405)


def test_while_the_model_loads_it_is_unavailable():
    loading = create_app(Service(), Guard()).test_client()
    assert error_of(loading.get("/experts"), 503)["code"] == "loading"


def test_it_is_logged_for_those_who_look_closely_alone(client, caplog):
    with caplog.at_level(logging.INFO, "moedge.edge_server.observing.request_log"):
        client.get("/experts").close()
        assert not caplog.records
        client.get("/v1/models").close()
        assert len(caplog.records) == 1


@needs_kernels
def test_each_program_has_its_own_counts():
    library, (first, second, _) = open_library(), experts(4, 64, 64)
    mine, other = (ExpertCounts(library, 9, 4, 2) for _ in range(2))
    with mine.kept():
        sessions = [open_experts(first, second, expert_attributes(64, 64, 2, layer=layer)) for layer in (7, 2)]
    with other.kept():
        sessions.append(open_experts(first, second, expert_attributes(64, 64, 2, layer=7)))
    nothing = mine.read()
    assert (nothing.layers, nothing.counts.shape, nothing.tokens) == ((), (0, 4), 0)
    select = np.array([[3, 2, 0, 0], [3, 0, 2, 0], [3, 0, 0, 2]], np.float32)
    for session in sessions[:2]:
        session.run(None, {"x": np.ones((3, 64), np.float32), "select": select})
    totals = mine.read()
    assert (totals.layers, totals.tokens) == ((2, 7), 3)
    assert totals.counts.tolist() == [[3, 1, 1, 1]] * 2
    assert other.read().layers == ()


def test_a_poll_of_a_large_mixture_is_short(serve):
    """94 layers of 512 experts, a few times a second: a quarter of a megabyte."""
    totals = ExpertTotals(tuple(range(94)), np.full((94, 512), 123_456_789, np.uint64), 7)
    response = serve(engine_of(num_experts=512, totals=totals)).get("/experts?encoding=base64")
    assert len(response.data) < 260_000
    assert len(json.loads(response.data)["counts"]) == 4 * ((94 * 512 * 4 + 2) // 3)


def test_owners_of_keys_do_not_see_where_each_others_tokens_go():
    totals = ExpertTotals((0, 1), COUNTS, 4)
    for keys, counted in (("first-key",), True), (("first-key", "other-key"), False):
        service = Service()
        service.open(engine_of(totals=totals), 1, 1)
        client = create_app(service, Guard(Keys.of(keys))).test_client()
        told = client.get("/experts", headers={"Authorization": "Bearer first-key"}).json
        assert (told["counted"], bool(told["counts"])) == (counted, counted)
        service.close()
