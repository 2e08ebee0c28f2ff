"""Who is let in: keys, Host headers, other machines; and what the greeting tells of them."""

import base64
import re

import pytest
from edge_client import HELLO, error_of
from flask import g
from werkzeug.datastructures import Headers

from moedge.devices.errors import MoedgeError
from moedge.edge_server import keys
from moedge.edge_server.guard import Guard, make_guard
from moedge.edge_server.keys import Keys, read_key_file, split_keys
from moedge.edge_server.startup import greeting

KEY = "correct-horse"
OPEN = {"/livez", "/readyz"}


def basic(password, user="anybody"):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def locked(serve):
    return serve(guard=Guard(Keys.of([KEY, "battery-staple"])))


def test_every_route_but_the_probes_wants_the_key(locked):
    """Those of the URL map with every method that it knows, and some that it does not."""
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"x-api-key": "wrong"}]
    wrong += [{"Authorization": f"Token {KEY}"}, {"Authorization": KEY}, basic("wrong"), {"Cookie": f"key={KEY}"}]
    asked = 0
    for rule in locked.application.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "acme", rule.rule)
        for method in sorted({*rule.methods, "OPTIONS", "DELETE", "PUT"}):
            asked += 1
            for headers in wrong if path == "/v1/models" else wrong[:2]:
                status = locked.open(path, method=method, headers=headers).status_code
                assert (status != 401) == (path in OPEN), (method, path)
    assert asked > 40
    error_of(locked.get("/nowhere"), 401)
    error_of(locked.get(f"/v1/models?api_key={KEY}"), 401)  # a key in an address ends up in logs
    # a browser's question, which carries no key, is answered by the rules for origins
    question = {"Origin": "http://page.example", "Access-Control-Request-Method": "GET"}
    error_of(locked.options("/v1/models", headers=question), 403)


@pytest.mark.parametrize("key", [KEY, "battery-staple"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "x-api-key", "api-key", "X-API-KEY", "Basic", "beside another"])
def test_a_key_is_taken_wherever_clients_put_it(locked, key, scheme):
    headers = {
        "Basic": basic(key),
        "beside another": {"Authorization": "Bearer none", "x-api-key": key},
    }.get(scheme, {scheme: key} if "key" in scheme.lower() else {"Authorization": f"{scheme} {key}"})
    assert locked.get("/v1/models", headers=headers).status_code == 200
    assert locked.post("/v1/chat/completions", json=HELLO, headers=headers).status_code == 200


@pytest.mark.parametrize("sent", ["Basic", "Basic !!", "Basic =", "Basic " + "A" * 5, "Basic /w==", "Bearer", "", " "])
def test_a_broken_header_is_no_key(locked, sent):
    error_of(locked.get("/v1/models", headers={"Authorization": sent}), 401)


def test_a_browser_is_asked_for_the_key_where_it_shows_the_answer(locked):
    def scheme(path, method="GET", **headers):
        response = locked.open(path, method=method, headers=headers)
        assert response.status_code == 401
        return response.headers["WWW-Authenticate"].partition(" ")[0]

    assert scheme("/") == scheme("/props", Accept="text/html,*/*") == scheme("/", "HEAD") == "Basic"
    assert scheme("/props") == scheme("/v1/models", Accept="*/*") == "Bearer"
    assert scheme("/v1/completions", "POST", Accept="text/html") == "Bearer"
    assert locked.get("/", headers=basic(KEY)).mimetype == "text/html"


def test_an_owner_is_a_digest_and_each_key_has_its_own(serve):
    seen = []

    def owner(guard, headers):
        client = serve(guard=guard)
        client.application.before_request(lambda: seen.append(g.owner))
        client.get("/v1/models", headers=headers)
        client.get("/livez", headers=headers)

    owner(Guard(), {"x-api-key": KEY})
    guard = Guard(Keys.of([KEY, "battery-staple", KEY]))
    for headers in ({"x-api-key": KEY}, basic(KEY), {"x-api-key": "battery-staple"}):
        owner(guard, headers)
    one, _, again, _, other, _ = seen[2:]
    assert seen[:2] == ["", ""]
    assert seen[3::2] == ["", "", ""]
    assert re.fullmatch("[0-9a-f]{32}", one)
    assert one == again != other
    # it outlives a restart, and a second key beside it: prompts are kept on disk by it
    assert Guard(Keys.of(["another-key", KEY])).keys.owners[1] == one
    assert KEY not in repr(guard)
    assert KEY.encode() not in b"".join(guard.keys.digests)


def test_what_was_read_for_one_key_is_read_again_for_another(locked):
    def cached(key):
        body = {"messages": [{"role": "user", "content": "a long question " * 20}]}
        answer = locked.post("/v1/chat/completions", json=body, headers={"x-api-key": key}).json
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached(KEY) == 0
    assert cached(KEY) > 0
    assert cached("battery-staple") == 0
    assert cached("battery-staple") > 0


def test_all_keys_are_compared_with_all_that_was_sent(monkeypatch):
    """Which key it was, and whether it was one, does not show in what is done."""
    compared = []
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or pair[0] == pair[1])
    several = Keys.of([KEY, "battery-staple", "third-of-them"])
    for sent in (KEY, "third-of-them", "wrong", "", "x" * 4000):
        compared.clear()
        assert (several.owner_of(Headers({"x-api-key": sent})) is None) == (sent not in (KEY, "third-of-them"))
        assert len(compared) == 3
        assert {len(part) for pair in compared for part in pair} == {32}


@pytest.mark.parametrize(
    ("host", "loopback", "open_"),
    [
        ("localhost:8080", 200, 200),
        ("LOCALHOST", 200, 200),
        ("127.0.0.1:8080", 200, 200),
        ("[::1]:8080", 200, 200),
        ("192.168.1.7:8080", 403, 200),
        ("evil.example", 403, 403),
        ("127.0.0.1.evil.example", 403, 403),
        ("pi.lan", 200, 200),
        ("host.docker.internal:8080", 200, 200),
        ("host.containers.internal", 200, 200),
        ("x.host.docker.internal", 403, 403),
        ("", 403, 403),
    ],
)
def test_host_header(serve, host, loopback, open_):
    for address, key, status in (("127.0.0.1", None, loopback), ("0.0.0.0", KEY, open_)):
        client = serve(guard=make_guard(address, [key] if key else [], ("pi.lan",)))
        headers = {"Host": host, "Authorization": f"Bearer {key}"}
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == status, (address, response.text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "pi.lan"])
def test_other_machines_need_a_key(host):
    with pytest.raises(MoedgeError, match="MOEDGE_API_KEY"):
        make_guard(host)
    assert make_guard(host, [KEY]).keys


@pytest.mark.parametrize("key", ["", "short", "schlüssel-lang", "with\x00nul-in-it", "\x7f" * 8])
def test_useless_key_is_refused(key):
    with pytest.raises(MoedgeError, match="API key"):
        make_guard("127.0.0.1", [KEY, key])


@pytest.mark.parametrize("text", [f"{KEY} battery-staple", f"{KEY},battery-staple", f"\n{KEY}\n\tbattery-staple,\n"])
def test_one_text_holds_several_keys(text):
    assert split_keys(text) == (KEY, "battery-staple")


@pytest.mark.parametrize("text", ["", " \n", ",,"])
def test_an_empty_text_is_not_taken_for_no_key(text):
    with pytest.raises(MoedgeError, match="empty"):
        split_keys(text)


def test_keys_of_a_file(tmp_path, caplog):
    file = tmp_path / "keys"
    file.write_text(f"# of the kitchen\n{KEY}\n\n  battery-staple  \n")
    file.chmod(0o600)
    assert read_key_file(file) == (KEY, "battery-staple")
    assert not caplog.records
    file.chmod(0o644)
    assert read_key_file(file) == (KEY, "battery-staple")
    assert "chmod 600" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("data", [None, b"", b"# none\n", b"\xff\xfe" * 8, b"long-enough\n" * 6000])
def test_a_file_without_keys_is_refused_by_name(tmp_path, data):
    file = tmp_path / "keys"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(MoedgeError, match=re.escape(str(file))):
        read_key_file(file)


@pytest.mark.parametrize(("chat_format", "asked"), [("kimi_k2", "kitchen light"), ("plain", "Hello"), (None, "prompt")])
def test_greeting_has_a_line_to_try_and_no_key(chat_format, asked):
    text = greeting("acme/fake", "http://127.0.0.1:8080", "correct-horse", chat_format)
    path = "completions" if chat_format is None else "chat/completions"
    assert f"curl http://127.0.0.1:8080/v1/{path} " in text
    assert asked in text
    assert ("set_light" in text) == (chat_format == "kimi_k2")
    assert "$MOEDGE_API_KEY" in text
    assert "correct-horse" not in text
