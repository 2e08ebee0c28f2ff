"""A thousand connections and a hundred streams, a client that reads nothing, and what it costs to be watched."""

import asyncio
import socket
import time
from contextlib import ExitStack

from asynchronous import ask, probe, request_bytes
from served import percentile

IDLE, ACTIVE, PROBES = 1000, 100, 300


def test_a_thousand_idle_connections_and_a_hundred_streams(serve, row):
    served = serve("--max-running", "4", "--max-queued", str(ACTIVE))
    asyncio.run(_streams(served, 8, 64))
    calm = asyncio.run(probe(served.port, PROBES // 3, 0.005))
    before = served.resident_mib()
    with ExitStack() as opened:
        for _ in range(IDLE):
            opened.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        time.sleep(0.5)
        idle = asyncio.run(probe(served.port, PROBES, 0.005))
        idle_mib = served.resident_mib() - before
        answers, busy, peak = asyncio.run(_beside(served))
    assert all(answer.status == 200 and b"data: [DONE]\n\n" in answer.body for answer in answers)
    time.sleep(1.5)
    assert served.counts()[0] < 100
    p99 = max(percentile(idle, 0.99), percentile(busy, 0.99))
    row(
        f"{IDLE} connections idle, and {ACTIVE} active",
        f"sockets that send nothing; streams of 64 tokens beside them; {len(idle) + len(busy)} probes",
        "/livez p99 ≤ 20 ms, + ≤ 50 MiB",
        f"/livez p99 {percentile(calm, 0.99):.1f} ms alone, {percentile(idle, 0.99):.1f} ms beside the idle,"
        f" {percentile(busy, 0.99):.1f} ms beside all (p50 {percentile(busy, 0.5):.1f});"
        f" + {idle_mib:.0f} MiB idle, + {peak - before:.0f} MiB at most",
        p99 <= 20 and peak - before <= 50,
    )


async def _streams(served, count, tokens):
    body = served.long(tokens, stream=True)
    return await asyncio.gather(*(ask(served.port, "/v1/completions", body) for _ in range(count)))


async def _beside(served):
    streams = asyncio.create_task(_streams(served, ACTIVE, 64))
    await asyncio.sleep(0.3)
    found, peak = [], 0.0
    while not streams.done() and len(found) < 2000:
        found += await probe(served.port, 20, 0.005)
        peak = max(peak, served.resident_mib())
    return await streams, found, peak


def test_a_client_that_does_not_read(serve, row):
    """Others do not notice; it is cut off when it has taken nothing for the stall limit."""
    served = serve("--max-running", "4", "--max-queued", "4")
    body = served.long(3, stream=True)
    calm = _times(served, body)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", served.port))
        # an answer that the kernel's buffers do not hold: each token with its twenty alternatives
        big = {"prompt": "x", "max_tokens": 3600, "logit_bias": served.ends, "logprobs": 20, "n": 3, "stream": True}
        silent.sendall(request_bytes("POST", "/v1/completions", big))
        time.sleep(0.5)
        beside_running = _times(served, body)
        while not served.idle():
            time.sleep(0.1)
        generated = time.monotonic()
        assert _held(served, silent), "it was cut off at once"
        beside = _times(served, body)
        while _held(served, silent) and time.monotonic() - generated < 60:
            time.sleep(0.25)
        cut_after = time.monotonic() - generated
        assert not _held(served, silent), "it was never cut off"
    calm += _times(served, body)
    worse = percentile(beside, 0.99) / percentile(calm, 0.99) - 1
    row(
        "client does not read",
        "4 KiB receive buffer, a stream of 3 × 3,600 tokens with 20 log probabilities; others ask 3 tokens 200 times",
        "others' p99 + ≤ 10 %; cut off after the stall limit",
        f"others' p99 {percentile(calm, 0.99):.0f} ms alone,"
        f" {percentile(beside, 0.99):.0f} ms beside ({100 * worse:+.0f} %),"
        f" {percentile(beside_running, 0.99):.0f} ms while it is generated; cut off {cut_after:.0f} s after the end",
        worse <= 0.10,
    )


def _held(served, silent):
    port = silent.getsockname()[1]
    return any(each.raddr and each.raddr.port == port for each in served.seen.net_connections("tcp"))


def _times(served, body):
    async def several():
        return [1000 * (await ask(served.port, "/v1/completions", body)).seconds for _ in range(200)]

    return asyncio.run(several())


def test_metrics_cost_little(serve, row):
    served = serve("--max-running", "2")

    async def rate(scrapes):
        stop, times = asyncio.Event(), []

        async def scrape():
            while not stop.is_set():
                answer = await ask(served.port, "/metrics")
                assert answer.status == 200
                times.append(1000 * answer.seconds)
                await asyncio.sleep(0.5)

        task = asyncio.create_task(scrape()) if scrapes else None
        began, tokens = time.perf_counter(), 0
        while time.perf_counter() - began < 2.5:
            tokens += (await ask(served.port, "/v1/completions", served.long(128))).tokens
        speed = tokens / (time.perf_counter() - began)
        stop.set()
        if task is not None:
            await task
        return speed, times

    asyncio.run(rate(False))
    alone, beside, times = [], [], []
    for _ in range(3):
        alone.append(asyncio.run(rate(False))[0])
        speed, took = asyncio.run(rate(True))
        beside.append(speed)
        times += took

    async def calm():
        return [1000 * (await ask(served.port, "/metrics")).seconds for _ in range(50)]

    quiet = asyncio.run(calm())
    cost = 1 - sorted(beside)[1] / sorted(alone)[1]
    row(
        "/metrics is scraped",
        "twice a second beside a stream, medians of 3",
        "≤ 10 ms, ≤ 1 % of tokens/s",
        f"{percentile(quiet, 0.5):.1f} ms on an idle server, {percentile(times, 0.5):.1f} ms beside an answer;"
        f" {100 * cost:+.1f} % of {sorted(alone)[1]:.0f} tokens/s",
        percentile(quiet, 0.5) <= 10 and cost <= 0.01,
    )
