"""Ten times as much as can be answered: the excess is told so at once, and costs the others nothing."""

import asyncio
import time

from asynchronous import Answer, ask
from served import percentile

SECONDS, UNLOADED_SECONDS, TOKENS, RUNNING = 60.0, 12.0, 512, 4


def test_overload(serve, row):
    served = serve("--max-running", str(RUNNING), "--max-queued", "8")
    body = served.long(TOKENS)
    asyncio.run(_closed(served.port, body, RUNNING, 2.0))
    calm, seconds = asyncio.run(_closed(served.port, body, RUNNING, UNLOADED_SECONDS))
    rate = len(calm) / seconds
    log_before = len(served.told_ms(429))
    began = time.perf_counter()
    crowd = asyncio.run(_open(served.port, body, 10 * rate, SECONDS))
    calm_again, seconds_again = asyncio.run(_closed(served.port, body, RUNNING, UNLOADED_SECONDS))
    accepted = [answer for answer in crowd if answer.status == 200]
    refused = [answer for answer in crowd if answer.status == 429]
    assert {answer.status for answer in crowd} <= {200, 429}, "nothing else is an answer to a crowd"
    assert all(answer.headers.get("retry-after", "").isdecimal() for answer in refused)
    assert all(answer.tokens == TOKENS for answer in [*calm, *accepted])
    within = [answer for answer in accepted if answer.began_at - began + answer.seconds <= SECONDS]
    unloaded = (len(calm) / seconds + len(calm_again) / seconds_again) / 2 * TOKENS
    goodput = len(within) * TOKENS / SECONDS
    told = served.told_ms(429)[log_before:]
    assert len(told) == len(refused)
    p99 = percentile(told, 0.99)
    row(
        "10 × overload",
        f"{SECONDS:.0f} s, {10 * rate:.0f} requests/s of {TOKENS} tokens, {RUNNING} at once",
        "excess gets 429 with Retry-After within 20 ms at p99; accepted: no errors; goodput ≥ 95 %",
        f"{len(refused)} refused, p50 {percentile(told, 0.5):.1f} ms, p99 {p99:.1f} ms;"
        f" {len(accepted)} accepted, 0 errors; goodput {100 * goodput / unloaded:.0f} % of {unloaded:.0f} tokens/s",
        p99 <= 20 and goodput >= 0.95 * unloaded,
    )


async def _closed(port: int, body: dict, clients: int, seconds: float) -> tuple[list[Answer], float]:
    """So many clients that ask again as soon as they are answered."""
    answers: list[Answer] = []
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < seconds:
            answers.append(await ask(port, "/v1/completions", body))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers, time.perf_counter() - began


async def _open(port: int, body: dict, rate: float, seconds: float) -> list[Answer]:
    """Requests at a rate, whatever becomes of those before."""
    tasks, began = [], time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        while len(tasks) < now * rate:
            tasks.append(asyncio.create_task(_timed(port, body)))
        await asyncio.sleep(1 / rate)
    return list(await asyncio.gather(*tasks))


async def _timed(port: int, body: dict) -> Answer:
    began = time.perf_counter()
    answer = await ask(port, "/v1/completions", body)
    answer.began_at = began
    return answer
