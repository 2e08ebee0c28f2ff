"""Two minutes of everything at once, a tenth of it cancelled: nothing grows."""

import asyncio
import random
import time

from asynchronous import ask

SECONDS, CLIENTS = 120.0, 6
TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Turn a light on or off",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}},
    "required": ["on"],
    "additionalProperties": False,
}
ROOMS = ("kitchen", "cellar", "hall", "garden", "attic")


def test_soak(serve, row):
    served = serve("--max-running", "4", "--max-queued", "8")
    statuses: dict[str, int] = {}
    asyncio.run(_mixed(served, 15.0, statuses))
    statuses.clear()
    time.sleep(2)
    memory, (files, threads) = served.resident_mib(), served.counts()
    asyncio.run(_mixed(served, SECONDS / 2, statuses))
    time.sleep(2)
    halfway = served.resident_mib()
    asyncio.run(_mixed(served, SECONDS / 2, statuses))
    time.sleep(2)
    after, (files_after, threads_after) = served.resident_mib(), served.counts()
    cancelled = statuses.pop("left", 0)
    assert set(statuses) == {"200"}, statuses
    assert files_after <= files + 2
    assert threads_after <= threads
    grown = after - memory
    row(
        "soak",
        f"{SECONDS:.0f} s, {CLIENTS} clients: chats, streams, tools, schemas, completions, 10 % cancelled",
        "no growth of memory, descriptors or threads",
        f"{sum(statuses.values())} answers, {cancelled} cancelled, 0 errors;"
        f" memory {memory:.1f}, {halfway:.1f}, {after:.1f} MiB at the begin, the middle and the end;"
        f" descriptors {files} and {files_after}, threads {threads} and {threads_after}",
        after - halfway <= 1.0 and grown <= 4.0,
    )
    assert grown < 32


async def _mixed(served, seconds, statuses):
    began = time.monotonic()

    async def client(number):
        rng = random.Random(number)
        while time.monotonic() - began < seconds:
            path, body = _request(served, rng)
            leaves = rng.random() < 0.1
            answer = await ask(served.port, path, body, rng.uniform(0.0, 0.15) if leaves else None)
            found = "left" if leaves and not answer.status else str(answer.status)
            statuses[found] = statuses.get(found, 0) + 1

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def _request(served, rng):
    question = {"role": "user", "content": f"turn {rng.choice(('on', 'off'))} the {rng.choice(ROOMS)} light"}
    chat = {"messages": [question], "max_tokens": rng.choice((8, 48)), "seed": rng.randrange(1 << 30)}
    kind = rng.randrange(5)
    if kind == 0:
        return "/v1/completions", served.long(
            rng.choice((4, 64)), prompt="turn " * rng.choice((1, 200)), n=rng.choice((1, 2))
        )
    more = ({}, {"stream": True}, {"tools": [TOOL]}, {"tools": [TOOL], "stream": True})[kind - 1]
    if kind == 1 and rng.random() < 0.5:
        more = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
    return "/v1/chat/completions", {**chat, **more}
