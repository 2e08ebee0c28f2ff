"""Many requests, one engine: a bounded queue and one thread that gives each running request a step in turn.

So a long prompt, which is prefilled in chunks, never freezes an answer that is being written. It owns the sessions and
keeps them between requests: a prompt continues the session that holds its longest beginning. It knows no HTTP.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import takewhile
from typing import Protocol

from moedge.devices.errors import MoedgeError
from moedge.runtime.generation import Token
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Interrupted
from moedge.runtime.ticket import Failed, Ticket

log = logging.getLogger(__name__)


class QueueFull(MoedgeError):  # noqa: N818 - it is a state of the queue before it is an error
    """No place is free; `retry_after_s` is a guess of when one will be."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"all places are taken and {waiting} requests wait: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NotAccepting(MoedgeError):  # noqa: N818 - likewise
    """The scheduler drains or has died."""


class Timeline(Protocol):
    """What is needed of a `Session`."""

    tokens: list[int]

    @property
    def length(self) -> int:
        """How many tokens the cache holds."""

    def resume(self, token_ids: Sequence[int]) -> list[int]:
        """Roll back to the longest common beginning; the tokens that are yet to be fed."""

    def steps(self, token_ids: Sequence[int], params: SamplingParams) -> Iterator[Token | None]:
        """None after a chunk of prefill, then tokens."""

    def interrupt(self) -> None:
        """End the run in progress, from another thread."""


class TimelineSource(Protocol):
    """What is needed of an `Engine`."""

    def session(self) -> Timeline:
        """A new, empty timeline."""


class _Running:
    """A request that has a session, or gets one with its first step."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.session: Timeline | None = None
        self.steps: Iterator[Token | None] | None = None
        self.broken = False  # then its session is not used again


class Scheduler:
    """Owns an engine's sessions. `max_running` requests take turns, `max_queued` more may wait.

    `stalled_after_s`: a single step that takes longer counts as a hang in `healthy`; 0: none ever does. A chunk of a
    long prompt is one step, and may take minutes on a small board.
    """

    def __init__(
        self, engine: TimelineSource, max_running: int = 2, max_queued: int = 16, stalled_after_s: float = 600.0
    ) -> None:
        self._engine = engine
        self._max_running = max_running
        self._max_queued = max_queued
        self._stalled_after_s = stalled_after_s
        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[Ticket] = deque()
        self._running: list[_Running] = []
        self._idle: list[Timeline] = []  # sessions, least recently used first
        self._stepping: _Running | None = None
        self._step_began = 0.0
        self._accepting = True
        self._closing = False
        self._mean_seconds = 1.0  # of a request, a moving average
        self._thread = threading.Thread(target=self._work, name="moedge-engine", daemon=True)
        self._thread.start()

    def submit(self, token_ids: Sequence[int], params: SamplingParams) -> Ticket:
        """Queue a prompt; raises QueueFull or NotAccepting at once."""
        ticket = Ticket(list(token_ids), params, self._cancel)
        with self._changed:
            if not self._accepting:
                raise NotAccepting("the server is shutting down: send the request to another one.")
            waiting = len(self._queue)
            if waiting + len(self._running) >= self._max_running + self._max_queued:
                wait_s = self._mean_seconds * (waiting + 1) / self._max_running
                raise QueueFull(waiting, min(60, max(1, math.ceil(wait_s))))
            self._queue.append(ticket)
            self._changed.notify_all()
        return ticket

    @property
    def healthy(self) -> bool:
        """Whether the thread lives and its current step has not taken too long."""
        with self._changed:
            stepping = self._stepping is not None and self._stalled_after_s > 0
            stalled = stepping and time.monotonic() - self._step_began > self._stalled_after_s
            return not stalled and (self._closing or self._thread.is_alive())

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits."""
        with self._changed:
            return not self._queue and not self._running

    def stop_accepting(self) -> None:
        """Refuse new requests from now on; those accepted go on. Takes no lock, so a signal handler may call it."""
        self._accepting = False

    def close(self) -> None:
        """End every request that is left with a failure, and the thread. A second call does nothing."""
        self.stop_accepting()
        with self._changed:
            self._closing = True
            if self._stepping is not None and self._stepping.session is not None:
                self._stepping.session.interrupt()
            self._changed.notify_all()
        self._thread.join(timeout=1.0)  # a thread that hangs in an operator dies with the process
        self._fail_all(NotAccepting("the server is shutting down: send the request to another one."))

    def _cancel(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket.finished or ticket.cancelled:
                return
            ticket.cancelled = True
            if ticket in self._queue:
                self._queue.remove(ticket)
            running = self._stepping
            if running is not None and running.ticket is ticket and running.session is not None:
                running.session.interrupt()
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while self._admit():
                for running in list(self._running):
                    self._step(running)
        except BaseException as error:  # a bug of ours: nobody must wait for a thread that is gone
            log.exception("the engine thread died")
            self._fail_all(RuntimeError(f"the engine thread died: {error}"))

    def _admit(self) -> bool:
        """Wait until there is work, then fill free places from the queue; False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._queue or self._running)
            while self._queue and len(self._running) < self._max_running:
                ticket = self._queue.popleft()
                ticket.start()
                self._running.append(_Running(ticket))
            return not self._closing

    def _step(self, running: _Running) -> None:
        ticket = running.ticket
        with self._changed:
            if ticket.cancelled:
                self._leave(running)
            if ticket.cancelled or self._closing:
                return
            self._stepping, self._step_began = running, time.monotonic()
        event: Token | Failed | None = None
        try:
            event = next(self._steps_of(running))
        except Interrupted:
            pass  # by `_cancel` or `close`; the session holds what was complete
        except StopIteration:
            event = Failed(RuntimeError("a generation ended without a finish reason"))
        except Exception as error:
            event = Failed(error)
        with self._changed:
            self._stepping = None
            if ticket.cancelled:
                self._leave(running)
            elif event is not None and not self._closing:
                self._deliver(running, event)

    def _deliver(self, running: _Running, event: Token | Failed) -> None:
        ticket = running.ticket
        if isinstance(event, Failed):
            running.broken = True
        ticket.put(event)
        if ticket.finished:
            self._mean_seconds += 0.2 * (ticket.seconds - self._mean_seconds)
            self._leave(running)

    def _steps_of(self, running: _Running) -> Iterator[Token | None]:
        if running.steps is None:
            ticket = running.ticket
            running.session = session = self._session_for(ticket.token_ids)
            rest = session.resume(ticket.token_ids)
            ticket.cached_tokens = session.length
            running.steps = session.steps(rest, ticket.params)
            if ticket.cancelled:  # then its interruption came before this generation, which is not affected by it
                raise Interrupted
        return running.steps

    def _session_for(self, token_ids: list[int]) -> Timeline:
        """The idle session that saves most work; a new or the oldest one rather than that of another chat."""
        best = max(self._idle, key=lambda session: _common(session.tokens, token_ids), default=None)
        # all prompts of one template begin alike: what agrees in less than half of the shorter one is another chat
        if best is not None and 2 * _common(best.tokens, token_ids) < min(best.length, len(token_ids)):
            best = self._idle[0] if len(self._idle) + len(self._running) > self._max_running else None
        if best is None:
            return self._engine.session()
        self._idle.remove(best)
        return best

    def _leave(self, running: _Running) -> None:
        """Give up a place; the session stays for later prompts unless its state is unknown."""
        if running not in self._running:
            return
        self._running.remove(running)
        if isinstance(running.steps, Generator):
            running.steps.close()
        if running.session is not None and not running.broken:
            self._idle.append(running.session)
        self._changed.notify_all()

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            self._accepting = False
            for ticket in [*self._queue, *(running.ticket for running in self._running)]:
                if not ticket.finished and not ticket.cancelled:
                    ticket.put(Failed(error))
            self._queue.clear()
            self._running.clear()
            self._stepping = None
            self._changed.notify_all()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
