"""One request in the scheduler, as the thread that waits for it sees it: events, timings, a way to cancel."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from moedge.runtime.generation import Token
from moedge.runtime.sampling import SamplingParams


@dataclass(frozen=True)
class Failed:
    """The last event of a request that could not be finished, with the reason."""

    error: Exception


@dataclass(frozen=True)
class Timings:
    """What one request took; milliseconds include the turns of other requests."""

    queued_ms: float
    cached_tokens: int  # of the prompt, found in the cache and not computed again
    prompt_tokens: int
    prompt_ms: float
    generated_tokens: int
    generated_ms: float


class Ticket:
    """A request that was accepted. The scheduler's thread writes it, one other thread reads its events."""

    def __init__(
        self,
        token_ids: list[int],
        params: SamplingParams,
        cancel: Callable[["Ticket"], None],
        owner: str = "",
        healthy: Callable[[], bool] = lambda: True,
    ) -> None:
        self.token_ids = token_ids
        self.params = params
        self.owner = owner  # whose prompts it may share what was read with
        self.cancelled = False
        self.finished = False
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.guessed = 0  # tokens that were run ahead of the answer
        self.guessed_right = 0  # of them, those that it has
        self._cancel = cancel
        self._healthy = healthy
        self._events: queue.SimpleQueue[Token | Failed] = queue.SimpleQueue()
        self._submitted = time.monotonic()
        self._started: float | None = None
        self._first: float | None = None
        self._last: float | None = None

    def take(self, wait_seconds: float) -> Token | Failed | None:
        """The next token, or at last a failure; None if none comes meanwhile.

        The last event is a Token with a finish reason or a Failed, also where the engine hangs; after a cancel there
        may be neither.
        """
        try:
            event = self._events.get(timeout=wait_seconds) if wait_seconds else self._events.get_nowait()
        except queue.Empty:
            return None if self._healthy() else Failed(RuntimeError("the engine hangs: nothing more is to be expected"))
        # what the engine has run ahead of a reader that stops reading belongs to no answer
        self.generated_tokens += isinstance(event, Token)
        return event

    def events(self, poll_seconds: float) -> Iterator[Token | Failed | None]:
        """All of them; None whenever `poll_seconds` pass without one."""
        while True:
            event = self.take(poll_seconds)
            yield event
            if isinstance(event, Failed) or (event is not None and event.finish_reason is not None):
                return

    def cancel(self) -> None:
        """Stop working on it, as soon as the operator that runs has ended; nothing if it has finished."""
        self._cancel(self)

    @property
    def timings(self) -> Timings:
        """What it took so far."""
        now = time.monotonic()
        started = self._started or now
        first = self._first or now
        return Timings(
            queued_ms=_ms(started - self._submitted),
            cached_tokens=self.cached_tokens,
            prompt_tokens=len(self.token_ids),
            prompt_ms=_ms(max(0.0, first - started)),
            generated_tokens=self.generated_tokens,
            generated_ms=_ms((self._last or first) - first),
        )

    @property
    def phase(self) -> Literal["queued", "prefill", "decode"]:
        """How far the work on it has come."""
        if self._started is None:
            return "queued"
        return "prefill" if self._first is None else "decode"

    @property
    def seconds(self) -> float:
        """Wall time since the work on it began."""
        return time.monotonic() - (self._started or time.monotonic())

    def start(self) -> None:
        """The scheduler took it out of the queue."""
        self._started = time.monotonic()

    def put(self, event: Token | Failed) -> None:
        """Deliver an event; the last one finishes it."""
        if isinstance(event, Token):
            self._last = time.monotonic()
            self._first = self._first or self._last
        self.finished = isinstance(event, Failed) or event.finish_reason is not None
        self._events.put(event)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
