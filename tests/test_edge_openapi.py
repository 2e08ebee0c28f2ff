"""GET /openapi.json: every route is there, and what is sent by it is answered by it. More with MOEDGE_FUZZ=20.

What is sent is made by schemathesis from the description alone: bodies that fit it, and others that do not.
"""

import json
import logging
import os
import re

import pytest
import schemathesis
from edge_client import HELLO
from hypothesis import HealthCheck, Phase, given, seed, settings
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tiny_bundle import TEMPLATE, engine_that_says

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys
from moedge.edge_server.openapi.document import describe_api
from moedge.edge_server.openapi.operations import MEANINGS
from moedge.edge_server.service import Service

TIMES = int(os.environ.get("MOEDGE_FUZZ", "1"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODEL = "toy"
DESCRIPTION = describe_api(needs_key=False)
OPERATIONS = [(method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods]
WITH_BODY = [(method, path) for method, path in OPERATIONS if "requestBody" in DESCRIPTION["paths"][path][method]]


TEMPLATE_OF_ALL = "{% if tools %}{{ tools | tojson }}{% endif %}{{ enable_thinking }}" + TEMPLATE


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """Over a real engine, with a real tokenizer, grammars and a template that shows tools."""
    folder, service = tmp_path_factory.mktemp("toy") / "bundle", Service()
    service.open(engine_that_says(folder, "hello", context_length=512, template=TEMPLATE_OF_ALL))
    logging.disable(logging.CRITICAL)
    yield create_app(service, Guard())
    logging.disable(logging.NOTSET)
    service.close()


@pytest.fixture(scope="module")
def described(application):
    return schemathesis.openapi.from_wsgi("/openapi.json", application)


def routes(application):
    """Path in the description's spelling, and method."""
    for rule in application.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            yield re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule), method.lower()


def test_every_route_is_described_and_no_other(application):
    assert sorted((method, path) for path, method in routes(application)) == sorted(OPERATIONS)
    for method, path in OPERATIONS:
        named = [
            each["name"] for each in DESCRIPTION["paths"][path][method].get("parameters", ()) if each["in"] == "path"
        ]
        assert named == re.findall(r"{(\w+)}", path)


def test_the_description_is_an_openapi_document(application):
    response = application.test_client().get("/openapi.json")
    assert response.mimetype == "application/json"
    document = response.json
    assert document["openapi"] == "3.1.0"
    identifiers = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(set(identifiers)) == len(identifiers)
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert validator_for(schema, Draft202012Validator) is Draft202012Validator, name
    found = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert found == set(document["components"]["schemas"]) - {"unused"}


def test_keys_are_described_where_they_are_asked_for():
    locked = create_app(Service(), Guard(Keys.of(["correct-horse"]))).test_client()
    document = locked.get("/openapi.json", headers={"api-key": "correct-horse"}).json
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic", "x-api-key", "api-key"}
    unlocked = {path for path, methods in document["paths"].items() for each in methods.values() if "security" in each}
    assert unlocked == {"/livez", "/readyz"}
    assert "security" not in DESCRIPTION


def test_every_status_that_an_error_has_is_told():
    for method, path in OPERATIONS:
        told = {int(status) for status in DESCRIPTION["paths"][path][method]["responses"]}
        assert {500, 503} <= told
        assert ({401, 403} <= told) == (path not in ("/livez", "/readyz"))
        if (method, path) in WITH_BODY:
            assert {400, 404, 413, 415, 429} <= told
        assert told <= {200, 304, *MEANINGS}


def methods_of(path):
    """Those of all paths that this one is an example of."""
    alike = {each: re.sub(r"{\w+}", "[^/]+", each) for each in DESCRIPTION["paths"]}
    return {
        method
        for each, methods in DESCRIPTION["paths"].items()
        if re.fullmatch(alike[each], path)
        for method in methods
    }


@pytest.mark.parametrize("path", DESCRIPTION["paths"])
def test_other_methods_are_a_405_in_json(application, path):
    client = application.test_client()
    for method in {"get", "post", "put", "patch", "delete", "trace", "brew"} - methods_of(path):
        response = client.open(re.sub(r"{\w+}", "x", path), method=method.upper())
        assert response.status_code == 405, (method, path)
        assert response.mimetype == "application/json"
        assert "error" in response.json
        allowed = {each.lower() for each in response.headers["Allow"].split(", ")}
        assert allowed - {"head"} == methods_of(path)


def examples(described, method, path, mode, most):
    """Run a check over requests that are made for one operation, the same ones each time."""

    def run(check):
        operation = described[path][method.upper()]
        wrapped = given(operation.as_strategy(generation_mode=mode))(check)
        quiet = settings(
            max_examples=most * TIMES,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        seed(14)(quiet(wrapped))()

    return run


def tame(data):
    """The same without numbers that no JSON parser need take, and of a model that is there."""
    match data:
        case dict():
            return {name: MODEL if name == "model" else tame(value) for name, value in data.items()}
        case list():
            return [tame(value) for value in data]
        case int() if not isinstance(data, bool) and abs(data) >= 1 << 53:
            return data % 1000
    return data


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_fits_the_description_is_understood(described, method, path):
    """No field of it is unknown, and the answer is one of those that are described."""
    codes = []

    def check(case):
        if isinstance(case.body, dict):
            case.body = tame(case.body)
            if path.startswith("/v1/responses") and "input" not in case.body:
                case.body["input"] = "hi"
        response = case.call()
        codes.append(response.status_code)
        if response.headers.get("Content-Type", [""])[0] == "application/json":
            error = response.json().get("error")
            assert not (isinstance(error, dict) and error.get("code") == "unknown_parameter"), error
        case.validate_response(response, checks=CHECKS)

    examples(described, method, path, GenerationMode.POSITIVE, 8 if (method, path) in WITH_BODY else 2)(check)
    assert codes


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_what_does_not_fit_is_refused(described, method, path):
    def check(case):
        response = case.call()
        case.validate_response(response, checks=CHECKS)

    examples(described, method, path, GenerationMode.NEGATIVE, 4)(check)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", HELLO | {"n": 2, "logprobs": True, "top_logprobs": 2}),
        ("/v1/chat/completions", HELLO | {"stream": True}),
        ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 1, "echo": False}),
        ("/v1/messages", HELLO | {"max_tokens": 9}),
        ("/v1/messages", HELLO | {"max_tokens": 9, "stream": True}),
        ("/v1/messages/count_tokens", HELLO),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/responses", {"input": "hi", "stream": True, "store": False}),
        ("/v1/responses/input_tokens", {"input": "hi"}),
        ("/tokenize", HELLO | {"with_pieces": True, "return_token_strs": True}),
        ("/detokenize", {"tokens": [104, 105]}),
        ("/apply-template", HELLO),
    ],
)
def test_answers_that_went_well_are_as_described(described, path, body):
    case = described[path]["POST"].Case(body=body, media_type="application/json")
    response = case.call()
    assert response.status_code == 200, response.text
    case.validate_response(response, checks=CHECKS)


def test_a_kept_response_and_its_items_are_as_described(described):
    made = described["/v1/responses"]["POST"].Case(body={"input": "hi"}, media_type="application/json").call().json()
    for method, path in (
        ("GET", "/v1/responses/{response_id}"),
        ("GET", "/v1/responses/{response_id}/input_items"),
        ("DELETE", "/v1/responses/{response_id}"),
    ):
        case = described[path][method].Case(path_parameters={"response_id": made["id"]})
        response = case.call()
        assert response.status_code == 200
        case.validate_response(response, checks=CHECKS)
