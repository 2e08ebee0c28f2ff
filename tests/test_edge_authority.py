"""What a request may say of the machine that it is for: one host, its header read to the end, any form of target."""

import pytest
from fake_engine import FakeEngine
from live_server import send


@pytest.fixture
def run_fake(run):
    return run(FakeEngine())


@pytest.mark.parametrize(
    "host", ["[::1]evil.example", "localhost:80@evil.example", "localhost:1, evil.example", "[::1", "[]", ":80", "::1"]
)
def test_a_host_header_is_read_to_its_end(serve, host):
    assert serve().get("/v1/models", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["[::1]:", "localhost:", "localhost.:80", "127.8.9.10"])
def test_hosts_may_be_spelled_oddly(serve, host):
    assert serve().get("/v1/models", headers={"Host": host}).status_code == 200


def test_two_hosts_are_none(run_fake):
    head, _ = send(run_fake.port, b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")  # probes name none
    assert " 200 " in head
    for hosts in (b"Host: localhost:1\r\nHost: evil.example", b"Host: evil.example\r\nHost: localhost", b"X: y"):
        head, body = send(run_fake.port, b"GET /v1/models HTTP/1.1\r\n" + hosts + b"\r\nConnection: close\r\n\r\n")
        assert " 403 " in head
        assert body["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("target", [b"http://", b"http://localhost", b"http://localhost?x=1"])
def test_a_target_without_a_path_is_the_root(run_fake, target):
    request = b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    head, body = send(run_fake.port, request)
    assert " 405 " in head  # it was a redirect, in HTML
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"PROPFIND"])
def test_methods_of_no_route_are_refused_in_json(run_fake, method):
    head, body = send(run_fake.port, method + b" /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert " 405 " in head
    assert body["error"]["message"]
