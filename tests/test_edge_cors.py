"""Pages of other origins: what a browser is told, with a key and without, of answers and of errors."""

import re

import pytest
from edge_client import HELLO, error_of

from moedge.devices.errors import MoedgeError
from moedge.edge_server.app import create_app
from moedge.edge_server.cors import EXPOSED, Cors, read_origins
from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys

KEY = "correct-horse"
PAGE = "http://localhost:5173"
ALLOWED = Cors(frozenset({PAGE, "app://obsidian.md"}))
SENT = {"Authorization": f"Bearer {KEY}", "Origin": PAGE}


@pytest.fixture
def asked(serve):
    """A client of a server with a key that lets pages of ALLOWED in."""
    service = serve().application.view_functions["GET /livez"].args[0]

    def client(cors=ALLOWED, keys=(KEY,)):
        return create_app(service, Guard(Keys.of(keys)), cors).test_client()

    return client


def preflight(client, path, method="POST", origin=PAGE, headers="", **more):
    question = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options(path, headers={name: value for name, value in {**question, **more}.items() if value})


def cors_headers(response):
    return {name: value for name, value in response.headers.items() if name.startswith("Access-Control")}


def test_a_browser_may_ask_every_route_for_what_it_takes_without_a_key(asked):
    client = asked()
    for rule in client.application.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "acme", rule.rule)
        for method in rule.methods:
            response = preflight(client, path, method)
            assert (response.status_code, response.data) == (204, b"")
            assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert response.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Credentials" not in response.headers


def test_what_is_not_there_is_not_allowed(asked):
    client = asked()
    error_of(preflight(client, "/nowhere"), 404)
    assert "PUT" not in preflight(client, "/v1/models", "GET").headers["Access-Control-Allow-Methods"]
    refused = preflight(client, "/v1/models", "PUT")
    error_of(refused, 405)
    assert refused.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    "origin", ["http://localhost:5174", "https://localhost:5173", "http://evil.example", "null", "x"]
)
def test_other_origins_are_refused_and_read_nothing(asked, origin):
    client = asked()
    response = preflight(client, "/v1/models", "GET", origin)
    assert "--cors-origin" in error_of(response, 403)["message"]
    assert not cors_headers(response)
    answer = client.get("/v1/models", headers=SENT | {"Origin": origin})
    assert answer.status_code == 200  # not every client that names an origin is a browser
    assert not cors_headers(answer)
    assert "Origin" in answer.headers["Vary"]


def test_headers_that_clients_send_are_allowed_by_name(asked):
    wanted = "authorization, Content-Type,x-stainless-lang, anthropic-version,x-api-key, openai-organization"
    response = preflight(asked(), "/v1/chat/completions", headers=f"{wanted}, x-forwarded-for, cookie,, a\tb, *")
    assert response.headers["Access-Control-Allow-Headers"] == ", ".join(
        name.strip().lower() for name in wanted.split(",")
    )


def test_a_server_in_a_private_network_says_so_where_it_is_asked(asked):
    client = asked()
    asks = {"Access-Control-Request-Private-Network": "true"}
    assert preflight(client, "/v1/models", "GET", **asks).headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Private-Network" not in preflight(client, "/v1/models", "GET").headers


def test_a_page_reads_answers_streams_and_errors(asked):
    client = asked()
    answers = {
        200: client.post("/v1/chat/completions", json=HELLO | {"stream": True}, headers=SENT),
        400: client.post("/v1/chat/completions", json={}, headers=SENT),
        401: client.get("/v1/models", headers={"Origin": PAGE}),
        404: client.get("/nowhere", headers=SENT),
        405: client.put("/v1/models", headers=SENT),
        415: client.post("/v1/chat/completions", data="x", headers=SENT),
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert cors_headers(response) == {
            "Access-Control-Allow-Origin": PAGE,
            "Access-Control-Expose-Headers": EXPOSED,
        }


def test_it_is_off_unless_told(serve):
    client = serve()
    error_of(preflight(client, "/v1/models", "GET"), 403)
    answer = client.get("/v1/models", headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert not cors_headers(answer)
    assert "Vary" not in answer.headers


def test_options_without_a_page_tells_the_methods(asked):
    client = asked()
    answer = client.options("/v1/models", headers=SENT)
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert cors_headers(answer)
    error_of(client.options("/v1/models"), 401)
    error_of(client.options("/nowhere", headers=SENT), 404)


def test_every_page_may_be_let_in_with_a_key(asked):
    client = asked(read_origins(["*"], has_key=True))
    for origin in ("http://anything.example", "null"):
        assert preflight(client, "/v1/models", "GET", origin).headers["Access-Control-Allow-Origin"] == "*"
        answer = client.get("/v1/models", headers=SENT | {"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("origin", ["*", "null", " * "])
def test_every_page_is_never_let_in_without_a_key(origin):
    with pytest.raises(MoedgeError, match="MOEDGE_API_KEY"):
        read_origins([PAGE, origin], has_key=False)


@pytest.mark.parametrize(
    ("stated", "sent"),
    [
        ("http://localhost:5173", "http://localhost:5173"),
        ("HTTPS://Chat.Example:443", "https://chat.example"),
        ("http://pi.lan:80", "http://pi.lan"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_is_spelled_as_browsers_send_it(stated, sent):
    assert read_origins([stated], has_key=False).origins == {sent}


@pytest.mark.parametrize(
    "stated",
    [
        "",
        "localhost:5173",
        "http://",
        "http://a/",
        "http://a/b",
        "http://a b",
        "http://u@a",
        "//a",
        "http://*.a",
        "http://a,http://b",
        "**",
    ],
)
def test_what_no_browser_sends_is_refused(stated):
    with pytest.raises(MoedgeError, match="--cors-origin"):
        read_origins([stated], has_key=True)
