"""Who is let in: keys, Host headers, other machines; and what the greeting tells of them."""

import pytest
from edge_client import HELLO, error_of

from moedge.devices.errors import MoedgeError
from moedge.edge_server.guard import Guard, make_guard
from moedge.edge_server.startup import greeting


def test_every_route_but_the_probes_wants_the_key(serve):
    client = serve(guard=Guard(api_key="correct-horse"))
    for rule in client.application.url_map.iter_rules():
        path = rule.rule.replace("<path:model>", "acme/fake-moe")
        for method in sorted(rule.methods):
            allowed = path in ("/livez", "/readyz")
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic correct-horse"}):
                status = client.open(path, method=method, headers=headers).status_code
                assert (status != 401) == allowed, (method, path)
    error_of(client.get("/nowhere"), 401)
    good = {"Authorization": "Bearer correct-horse"}
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.post("/v1/chat/completions", json=HELLO, headers=good).status_code == 200


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
    for address, key, status in (("127.0.0.1", None, loopback), ("0.0.0.0", "correct-horse", open_)):
        client = serve(guard=make_guard(address, key, ("pi.lan",)))
        headers = {"Host": host, "Authorization": f"Bearer {key}"}
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == status, (address, response.text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "pi.lan"])
def test_other_machines_need_a_key(host):
    with pytest.raises(MoedgeError, match="MOEDGE_API_KEY"):
        make_guard(host, None)
    assert make_guard(host, "correct-horse").api_key


@pytest.mark.parametrize("key", ["", "short", "schlüssel-lang", "with\nnewline-in-it", " " * 20])
def test_useless_key_is_refused(key):
    with pytest.raises(MoedgeError, match="API key"):
        make_guard("127.0.0.1", key)


def test_key_is_not_in_what_python_prints():
    assert "correct-horse" not in repr(make_guard("127.0.0.1", "correct-horse"))


@pytest.mark.parametrize(("chat_format", "asked"), [("kimi_k2", "kitchen light"), ("plain", "Hello"), (None, "prompt")])
def test_greeting_has_a_line_to_try_and_no_key(chat_format, asked):
    text = greeting("acme/fake", "http://127.0.0.1:8080", "correct-horse", chat_format)
    path = "completions" if chat_format is None else "chat/completions"
    assert f"curl http://127.0.0.1:8080/v1/{path} " in text
    assert asked in text
    assert ("set_light" in text) == (chat_format == "kimi_k2")
    assert "$MOEDGE_API_KEY" in text
    assert "correct-horse" not in text
