"""Clients by the hundred in one thread, over plain sockets, so that little of a small machine goes to them."""

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    """What a request got; `times` are those of its events since it was sent, in seconds. Status 0: it was cut off."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    began_at: float = 0.0

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def tokens(self) -> int:
        """How many were generated; 0 of a failure."""
        if self.status != 200:
            return 0
        return int(self.json["usage"]["completion_tokens"]) if not self.times else len(self.times)


def request_bytes(method: str, path: str, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


async def ask(port: int, path: str, body: object = None, leave_after: float | None = None) -> Answer:
    """One request on a connection of its own; with `leave_after` its client is gone after so many seconds."""
    answer, began = Answer(), time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(request_bytes("GET" if body is None else "POST", path, body))
        async with asyncio.timeout(leave_after):
            await _read(reader, answer, began, isinstance(body, dict) and bool(body.get("stream")))
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()
    answer.seconds = time.perf_counter() - began
    return answer


async def _read(reader: asyncio.StreamReader, answer: Answer, began: float, stream: bool) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    answer.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = []
    while part := await reader.readline() if stream else await reader.read(1 << 16):
        parts.append(part)
        if stream and part.startswith(b"data: {"):
            answer.times.append(time.perf_counter() - began)
    answer.body = b"".join(parts)
    answer.status = int(first.split()[1])


async def probe(port: int, count: int, pause: float) -> list[float]:
    """How long each of so many looks at /livez took, in ms; all must be answered."""
    found = []
    for _ in range(count):
        answer = await ask(port, "/livez")
        assert answer.status == 200
        found.append(1000 * answer.seconds)
        await asyncio.sleep(pause)
    return found
