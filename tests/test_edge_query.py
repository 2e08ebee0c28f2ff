"""Queries are read as strictly as bodies: what a route does not know, or is told twice, is a 400 that names it."""

import pytest
from edge_client import error_of

ANTHROPIC = {"anthropic-version": "2023-06-01"}
# Of each route a parameter that it knows.
KNOWN = {
    "/props": "model",
    "/experts": "encoding",
    "/v1/models": "limit",
    "/v1/responses/resp_0": "stream",
    "/v1/responses/resp_0/input_items": "limit",
}


@pytest.fixture(scope="module", params=KNOWN.items(), ids=KNOWN)
def route(request):
    return request.param


def _refused(client, path, query):
    answer = client.get(f"{path}?{query}", headers=ANTHROPIC if path == "/v1/models" else {})
    assert answer.status_code == 400, answer.data
    return answer.json["error"]["message"]


def test_an_unknown_parameter_is_named_with_those_that_there_are(serve, route):
    path, known = route
    said = _refused(serve(), path, "colour=red")
    assert said.startswith("colour: ") and known in said


def test_a_parameter_that_stands_twice_is_refused(serve, route):
    path, known = route
    assert _refused(serve(), path, f"{known}=1&{known}=2") == f"{known}: it is there twice; send it once."


def test_one_that_may_be_repeated_may(serve):
    client = serve()
    assert client.get("/metrics?name[]=moedge_build_info&name[]=process_start_time_seconds").status_code == 200
    assert error_of(client.get("/metrics?name=x"), 400)["param"] == "name"


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "x", "", "٣", "9" * 5000])
def test_a_limit_is_a_whole_number_within_its_bounds(serve, limit):
    assert (
        _refused(serve(), "/v1/responses/resp_0/input_items", f"limit={limit}")
        == "limit: it must be a whole number from 1 to 100."
    )
