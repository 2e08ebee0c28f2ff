"""GET /metrics: names and numbers after requests that went well, failed, were refused or abandoned."""

import http.client
from contextlib import closing
from dataclasses import replace

import pytest
from edge_client import HELLO, chat, error_of
from fake_engine import CACHE, FakeEngine
from live_server import leave, wait_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys
from moedge.edge_server.observing.hardware_gauges import HardwareCollector

MODEL = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "moedge", "gen_ai_request_model": "acme/fake-moe"}
KINDS = ("queued", "running")
PHASES = ("queued", "prefill", "decode")
DURATION = "gen_ai_server_request_duration_seconds"


def samples(text, parser=parse):
    return {(s.name, frozenset(s.labels.items())): s.value for family in parser(text) for s in family.samples}


def scrape(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    return samples(response.text)


def value(found, name, **labels):
    return found.get((name, frozenset(labels.items())))


def post(client, **fields):
    response = chat(client, **fields)
    response.get_data()
    response.close()
    return response.status_code


def test_an_answer_is_counted_once_it_has_been_sent(serve):
    client = serve(FakeEngine(step_seconds=0.004))
    for fields in ({}, {"stream": True}, {"n": 2}):
        assert post(client, **fields) == 200
    found = scrape(client)
    assert value(found, f"{DURATION}_count", **MODEL, error_type="") == 3
    assert value(found, f"{DURATION}_sum", **MODEL, error_type="") >= 3 * 4 * 0.004
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", **MODEL) == 3
    assert value(found, "gen_ai_server_time_to_first_token_seconds_sum", **MODEL) >= 0.004
    assert value(found, "gen_ai_server_time_per_output_token_seconds_count", **MODEL) == 4
    assert 0.004 <= value(found, "gen_ai_server_time_per_output_token_seconds_sum", **MODEL) / 4 < 1
    usage = {
        kind: value(found, "gen_ai_client_token_usage_sum", **MODEL, gen_ai_token_type=kind)
        for kind in ("input", "cached", "output")
    }
    prompt = len("<|user|>hi<|assistant|>")
    assert usage["input"] == 3 * prompt  # once a prompt, however many answers
    assert usage["output"] == 4 * 4
    assert 0 < usage["cached"] < usage["input"]


def test_completions_have_an_operation_of_their_own_and_count_each_prompt(serve):
    client = serve()
    client.post("/v1/completions", json={"prompt": ["abc", "de"], "n": 2}).close()
    labels = MODEL | {"gen_ai_operation_name": "text_completion"}
    found = scrape(client)
    assert value(found, f"{DURATION}_count", **labels, error_type="") == 1
    assert value(found, "gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="input") == 5


def test_what_is_refused_is_counted_by_its_reason(serve):
    client = serve(guard=Guard(Keys.of(["correct-horse"])))
    good = {"x-api-key": "correct-horse"}
    client.get("/metrics").close()
    client.get("/v1/models", headers={"Host": "evil.example"}).close()
    client.get("/nowhere", headers=good).close()
    client.put("/props", headers=good).close()
    for body in ({}, HELLO | {"model": "x" * 9}, HELLO | {"nonsense": 1}, {"messages": [HELLO["messages"][0]] * 999}):
        client.post("/v1/chat/completions", json=body, headers=good).close()
    found = samples(client.get("/metrics", headers=good).text)
    reasons = {
        dict(labels)["reason"]: count
        for (name, labels), count in found.items()
        if name == "moedge_requests_rejected_total"
    }
    once = ("invalid_api_key", "host_not_allowed", "404", "405", "invalid_request_error", "model_not_found")
    assert reasons == dict.fromkeys((*once, "unknown_parameter", "context_length_exceeded"), 1)
    unnamed = MODEL | {"gen_ai_request_model": ""}
    assert value(found, f"{DURATION}_count", **unnamed, error_type="model_not_found") == 1
    assert not any("xxxxxxxxx" in str(key) for key in found), "what a client says is no label"


def test_failures_are_no_rejections_and_tell_no_times(serve):
    client = serve(FakeEngine(lambda prompt: ["Hel", RuntimeError("broke")]))
    assert post(client) == 500
    assert post(client, stream=True) == 200
    found = scrape(client)
    assert value(found, f"{DURATION}_count", **MODEL, error_type="internal_error") == 2
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", **MODEL) is None
    assert not any(name == "moedge_requests_rejected_total" for name, _ in found)


def test_a_stop_string_is_no_cancellation(serve):
    client = serve()
    assert post(client, stop="l", stream=True) == 200
    found = scrape(client)
    for phase in PHASES:
        assert value(found, "moedge_requests_cancelled_total", phase=phase) == 0
    assert value(found, f"{DURATION}_count", **MODEL, error_type="") == 1


def read(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        client.request("GET", "/metrics")
        return samples(client.getresponse().read().decode())


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_are_counted_by_how_far_they_had_come(run, ask, stream):
    """One in its answer, one in its prompt, one in the queue."""
    engine = FakeEngine(lambda prompt: ["a"] * 5000, step_seconds=0.01, chunk=4)
    port = run(engine, max_running=2).port
    chats = [{"messages": [{"role": "user", "content": text}], "stream": stream} for text in ("hi", "x" * 3000, "ho")]
    here = {"gen_ai_request_model": "acme/fake-moe"}
    clients = []
    for body in chats:
        clients.append(ask(port, body))
        wait_for(lambda: sum(value(read(port), f"moedge_requests_{kind}", **here) for kind in KINDS) == len(clients))
    assert (
        value(read(port), "moedge_requests_running", **here),
        value(read(port), "moedge_requests_queued", **here),
    ) == (2, 1)
    wait_for(lambda: len(engine.runs) > 30)  # so that the first one has begun to answer
    gone = []
    for client in reversed(clients):
        leave(client)
        gone.append(client)
        wait_for(lambda: value(read(port), f"{DURATION}_count", **MODEL, error_type="client_left") == len(gone))
    found = read(port)
    phases = {phase: value(found, "moedge_requests_cancelled_total", phase=phase) for phase in PHASES}
    assert phases == dict.fromkeys(PHASES, 1)
    assert value(found, "moedge_requests_running", **here) == value(found, "moedge_requests_queued", **here) == 0
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", **MODEL) is None


def test_a_full_queue_is_a_rejection(run, ask):
    engine = FakeEngine()
    engine.manifest = replace(engine.manifest, cache=CACHE)
    port = run(engine, max_running=1, max_queued=0).port
    engine.gate.clear()
    first = ask(port)
    here = {"gen_ai_request_model": "acme/fake-moe"}
    wait_for(lambda: value(read(port), "moedge_requests_running", **here) == 1)
    assert value(read(port), "moedge_kv_cache_bytes", **here) > 0
    assert ask(port).getresponse().status == 429
    engine.gate.set()
    assert first.getresponse().status == 200
    found = read(port)
    assert value(found, "moedge_requests_rejected_total", reason="queue_full") == 1
    assert value(found, f"{DURATION}_count", **{**MODEL, "gen_ai_request_model": ""}, error_type="queue_full") == 1
    assert value(found, "moedge_prefix_cache_misses_total", **here) == 1


def test_formats_are_negotiated_and_series_picked(serve):
    client = serve()
    post(client)
    plain = client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert plain.headers["Cache-Control"] == "no-store"
    wanted = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"  # Prometheus sends it
    open_ = client.get("/metrics", headers={"Accept": wanted})
    assert open_.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_.text.endswith("# EOF\n")
    assert value(samples(open_.text, openmetrics), f"{DURATION}_count", **MODEL, error_type="") == 1
    picked = client.get("/metrics?name[]=moedge_model_loaded&name[]=process_resident_memory_bytes")
    assert {name for name, _ in samples(picked.text)} == {"moedge_model_loaded", "process_resident_memory_bytes"}
    error_of(client.get("/metrics?names=x"), 400)
    assert client.head("/metrics").data == b""


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=abc", "text/plain;version=x.1", ";;,;=", "*/*"]
)
def test_a_broken_accept_header_gets_plain_text(serve, accept):
    response = serve().get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")


def test_the_machine_and_the_process_are_told(serve):
    found = scrape(serve())
    assert value(found, "process_resident_memory_bytes") > 10 << 20
    assert value(found, "process_paging_faults_total", system_paging_fault_type="major") is not None
    assert value(found, "moedge_model_loaded", gen_ai_request_model="acme/fake-moe") == 1
    assert any(name == "moedge_build_info" and dict(labels)["version"] for name, labels in found)


def test_clocks_and_temperatures_are_what_the_kernel_says(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    for core, kilohertz in enumerate(("1500000", "600000", "broken")):
        write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", kilohertz)
    write("sys/class/thermal/thermal_zone0/temp", "48312\n")
    write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write("sys/class/thermal/thermal_zone1/temp", "")
    write("sys/class/hwmon/hwmon3/name", "k10temp\n")
    write("sys/class/hwmon/hwmon3/temp1_input", "61500")
    write("sys/class/hwmon/hwmon4/name", "nvme\n")
    write("sys/class/hwmon/hwmon4/temp1_input", "39000")
    found = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in HardwareCollector(tmp_path).collect()
        for sample in family.samples
        if sample.name.startswith(("system_", "hw_"))
    }
    assert found == {
        ("system_cpu_frequency_hertz", ("0",)): 1.5e9,
        ("system_cpu_frequency_hertz", ("1",)): 6e8,
        ("hw_temperature_celsius", ("thermal_zone0", "cpu-thermal")): 48.312,
        ("hw_temperature_celsius", ("hwmon3/temp1", "k10temp")): 61.5,
    }
    silent = {family.name for family in HardwareCollector(tmp_path / "empty").collect()}
    assert silent == {"moedge_build", "process_paging_faults"}, "what a machine does not tell is left out"


def test_two_applications_count_apart(serve):
    one, other = serve(), serve()
    post(one)
    assert value(scrape(one), f"{DURATION}_count", **MODEL, error_type="") == 1
    assert value(scrape(other), f"{DURATION}_count", **MODEL, error_type="") is None


def test_many_requests_make_no_more_series(serve):
    client = serve()
    post(client)
    before = len(scrape(client))
    for number in range(30):
        post(client, model=f"m{number}")
        client.get(f"/lost/{number}").close()
        post(client, **{f"field{number}": 1})
    assert len(scrape(client)) <= before + 3 * (16 + 3) + 3 * 2
