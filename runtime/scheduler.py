"""Many requests, one engine: a bounded queue and one thread that gives each running request its steps.

A step is: choose whose turn it is, run a chunk of its prompt or its last token, take the token that follows. Where the
program batches, all answers that are being written take the step together, with a chunk of one prompt at most. So a
long prompt never freezes an answer. It owns the sessions and keeps them between requests: a prompt continues the
session that holds its longest beginning. It knows no HTTP.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.batch import Batch
from moedge.runtime.engine import Engine
from moedge.runtime.generation import Token
from moedge.runtime.program import Interrupted
from moedge.runtime.sampling import BrokenLogits, SamplingParams
from moedge.runtime.session import Session
from moedge.runtime.steps import Work, run_step, run_steps, take_step
from moedge.runtime.ticket import Failed, Ticket

log = logging.getLogger(__name__)
Events = Sequence[Token | Failed]


class QueueFull(MoedgeError):  # noqa: N818 - it is a state of the queue before it is an error
    """No place is free; `retry_after_s` is a guess of when one will be."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"all places are taken and {waiting} requests wait: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NotAccepting(MoedgeError):  # noqa: N818 - likewise
    """The scheduler drains or has died."""


class _Running:
    """A request that has a place; `work` from its first step on."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.work: Work | None = None


class Scheduler:
    """Owns an engine's sessions. `max_running` requests are answered at once or in turns, `max_queued` more may wait.

    `stalled_after_s`: a single step that takes longer counts as a hang in `healthy`; 0: none ever does. A chunk of a
    long prompt is one step, and may take minutes on a small board.
    """

    def __init__(
        self, engine: Engine, max_running: int = 2, max_queued: int = 16, stalled_after_s: float = 600.0
    ) -> None:
        self._engine = engine
        self._batch = Batch(engine.program) if engine.program.batches and max_running > 1 else None
        self._max_running = max_running
        self._max_queued = max_queued
        self._stalled_after_s = stalled_after_s
        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[Ticket] = deque()
        self._running: deque[_Running] = deque()  # whose turn is next, first
        self._idle: list[Session] = []  # least recently used first
        self._stepping: Sequence[_Running] = ()
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
                # what runs may well run as long again as it has; the mean knows nothing of it before it ends
                oldest_s = max((running.ticket.seconds for running in self._running), default=0.0)
                raise QueueFull(waiting, math.ceil(max(1, min(60, wait_s), oldest_s)))
            self._queue.append(ticket)
            self._changed.notify_all()
        return ticket

    @property
    def healthy(self) -> bool:
        """Whether the thread lives and its current step has not taken too long."""
        with self._changed:
            stepping = bool(self._stepping) and self._stalled_after_s > 0
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
            self._interrupt()
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
            stepping = [running.ticket for running in self._stepping]
            if ticket in stepping and all(each.cancelled for each in stepping):
                self._interrupt()  # while somebody stays, those who left do so after the step
            self._changed.notify_all()

    def _interrupt(self) -> None:
        """Stop the step in progress, shared or not."""
        if len(self._stepping) > 1 and self._batch is not None:
            self._batch.interrupt()
        for running in self._stepping:
            if running.work is not None:
                session, _ = running.work
                session.interrupt()

    def _work(self) -> None:
        try:
            while (first := self._choose()) is not None:
                self._deliver(self._step(first))
        except BaseException as error:  # a bug of ours: nobody must wait for a thread that is gone
            log.exception("the engine thread died")
            self._fail_all(RuntimeError(f"the engine thread died: {error}"))

    def _choose(self) -> _Running | None:
        """Wait until there is work, fill free places from the queue, begin the next one's step; None when closing."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closing or self._queue or self._running)
                if self._closing:
                    return None
                for running in [each for each in self._running if each.ticket.cancelled]:
                    self._leave(running)
                while self._queue and len(self._running) < self._max_running:
                    ticket = self._queue.popleft()
                    ticket.start()
                    self._running.append(_Running(ticket))
                if self._running:
                    first = self._running[0]
                    self._stepping, self._step_began = (first,), time.monotonic()
                    return first

    def _step(self, first: _Running) -> list[tuple[_Running, Events]]:
        """Run one chunk or token with its guesses, and take what follows; of each that took part, what is to be told.

        The others of `_company` take the step together with the first.
        """
        try:
            work = first.work or self._begin(first)
        except Interrupted:  # it was cancelled, or all is closed
            return []
        except Exception as error:
            return [(first, (Failed(error),))]
        company = self._company(first, work)
        try:
            found = self._run([work for _, work in company])
        except Interrupted:  # of all, by `_cancel` or `close`; the sessions hold what was complete
            return []
        return [(running, self._take(running, work, at)) for (running, work), at in zip(company, found, strict=True)]

    def _company(self, first: _Running, work: Work) -> list[tuple[_Running, Work]]:
        """Who steps with the first: all that decode, and a prompt if it has none itself. Their next turn comes last."""
        company, arena, prompts = [(first, work)], work[0].cache.arena, not work[1].decodes
        with self._changed:
            if self._closing or first.ticket.cancelled:
                return []
            for other in self._running if self._batch is not None else ():
                if other is first or other.work is None or other.ticket.cancelled:
                    continue
                session, generation = other.work
                if session.cache.arena is arena and not (prompts and not generation.decodes):
                    company.append((other, other.work))
                    prompts = prompts or not generation.decodes
            if self._batch is not None:
                self._batch.clear_interrupt()  # of a shared step that had ended
            self._stepping = [running for running, _ in company]
            for running in self._stepping:
                self._running.remove(running)
            self._running.extend(self._stepping)
        return company

    def _run(self, works: Sequence[Work]) -> list[NDArray[np.float32] | Exception]:
        try:
            if self._batch is not None and len(works) > 1:
                return run_steps(self._batch, works)
            return [run_step(*work, alone=len(self._running) < 2) for work in works]
        except Interrupted:
            raise
        except Exception as error:
            return [error for _ in works]

    def _take(self, running: _Running, work: Work, found: NDArray[np.float32] | Exception) -> Events:
        """What follows for one; empty if nothing is to be told yet."""
        session, generation = work
        if isinstance(found, Exception):  # the session's state is unknown: it is not used again
            running.work = None
            session.close()
            return (Failed(found),)
        try:
            tokens = take_step(session, generation, found)
        except Exception as error:
            if isinstance(error, BrokenLogits) or not isinstance(error, MoedgeError):
                running.work = None  # its cache may hold what is no number; a refusal leaves it as it is
                session.close()
            return (Failed(error),)
        running.ticket.guessed, running.ticket.guessed_right = generation.guessed, generation.guessed_right
        return tokens

    def _begin(self, running: _Running) -> Work:
        ticket = running.ticket
        session = self._session_for(ticket.token_ids)
        rest = session.resume(ticket.token_ids)
        ticket.cached_tokens = session.length
        try:
            work = session, self._engine.generation(session, rest, ticket.params)
        except MoedgeError:  # a prompt that is refused; the session is as it was
            self._idle.append(session)
            raise
        with self._changed:
            running.work = work  # from here on an interruption finds the session; one that came before is seen here
            if ticket.cancelled or self._closing:
                raise Interrupted
        return work

    def _deliver(self, told: Sequence[tuple[_Running, Events]]) -> None:
        with self._changed:
            self._stepping = ()
            for running, events in told:
                ticket = running.ticket
                if not ticket.cancelled and not self._closing:
                    for event in events:
                        ticket.put(event)
                    if ticket.finished:
                        self._mean_seconds += 0.2 * (ticket.seconds - self._mean_seconds)
                if ticket.cancelled or ticket.finished:
                    self._leave(running)

    def _session_for(self, token_ids: list[int]) -> Session:
        """The idle session that saves most work; a new or the oldest one rather than that of another chat."""
        best = max(self._idle, key=lambda session: session.reusable(token_ids), default=None)
        # all prompts of one template begin alike: what agrees in less than half of the shorter one is another chat
        if best is not None and 2 * best.reusable(token_ids) < min(best.length, len(token_ids)):
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
        if running.work is not None:
            session, _ = running.work
            running.work = None  # the answer's memory goes with it
            self._idle.append(session)
        self._changed.notify_all()

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            self._accepting = False
            for ticket in [*self._queue, *(running.ticket for running in self._running)]:
                if not ticket.finished and not ticket.cancelled:
                    ticket.put(Failed(error))
            self._queue.clear()
            self._running.clear()
            self._stepping = ()
            self._changed.notify_all()
