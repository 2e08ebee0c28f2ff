"""Many requests, one engine: a bounded queue and one thread that gives each running request its steps.

A step is: choose whose turn it is, run a chunk of its prompt or its last token, take the token that follows. Where the
program batches, all answers that are being written take the step together, with a chunk of one prompt at most. So a
long prompt never freezes an answer. With what a prompt begins is timelines.py's. It knows no HTTP.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.runtime.admission import NotAccepting, QueueFull, retry_after_s
from moedge.runtime.batch import Batch
from moedge.runtime.engine import Engine
from moedge.runtime.prefix_opening import open_prefixes
from moedge.runtime.prefixes.counts import PrefixCounts
from moedge.runtime.program import Interrupted
from moedge.runtime.running import Running
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.shared_step import Events, run_works, take_events
from moedge.runtime.steps import Work
from moedge.runtime.ticket import Failed, Ticket
from moedge.runtime.timelines import Timelines

log = logging.getLogger(__name__)


class Scheduler:
    """Owns an engine's sessions. `max_running` requests are answered at once or in turns, `max_queued` more may wait.

    `stalled_after_s`: a single step that takes longer counts as a hang in `healthy`; 0: none ever does. A chunk of a
    long prompt is one step, and may take minutes on a small board.
    `prefix_budget_bytes` of memory, and with a `cache_dir` so many of disk, are for beginnings of prompts that are not
    read again (prefix_cache.py): None for a share of what the device has to spare, 0 of memory for none.
    """

    def __init__(
        self,
        engine: Engine,
        max_running: int = 2,
        max_queued: int = 16,
        stalled_after_s: float = 600.0,
        prefix_budget_bytes: int | None = None,
        cache_dir: Path | None = None,
        cache_dir_bytes: int | None = None,
    ) -> None:
        prefixes = open_prefixes(engine, max_running, prefix_budget_bytes, cache_dir, cache_dir_bytes)
        self._timelines = Timelines(engine, max_running, prefixes)
        self._batch = Batch(engine.program) if engine.program.batches and max_running > 1 else None
        self._max_running = max_running
        self._max_queued = max_queued
        self._stalled_after_s = stalled_after_s
        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[Ticket] = deque()
        self._running: deque[Running] = deque()  # whose turn is next, first
        self._stepping: Sequence[Running] = ()
        self._step_began = 0.0
        self._accepting = True
        self._closing = False
        self._mean_seconds = 1.0  # of a request, a moving average
        self._thread = threading.Thread(target=self._work, name="moedge-engine", daemon=True)
        self._thread.start()

    def submit(self, token_ids: Sequence[int], params: SamplingParams, owner: str = "") -> Ticket:
        """Queue a prompt; raises QueueFull or NotAccepting at once. What was read for one `owner` is no other's."""
        return self.submit_all(token_ids, [params], owner)[0]

    def submit_all(self, token_ids: Sequence[int], several: Sequence[SamplingParams], owner: str = "") -> list[Ticket]:
        """Queue several answers to a prompt, which is read once: all of them, or none. Each takes a place.

        Raises as `submit`, MoedgeError if there are not so many places.
        """
        tickets = [Ticket(list(token_ids), params, self._cancel, owner, lambda: self.healthy) for params in several]
        with self._changed:
            self.check_room(len(tickets))
            self._queue.extend(tickets)
            self._changed.notify_all()
        return tickets

    def check_room(self, answers: int) -> None:
        """Raise what `submit_all` would raise now for so many answers, before any work is done for them."""
        places = self._max_running + self._max_queued
        if answers > places:
            raise MoedgeError(f"{answers} answers take as many places, and this server has {places}: ask for fewer.")
        with self._changed:
            if not self._accepting:
                raise NotAccepting
            waiting = len(self._queue)
            if waiting + len(self._running) + answers > places:
                running_s = [running.ticket.seconds for running in self._running]
                raise QueueFull(waiting, retry_after_s(waiting, self._max_running, self._mean_seconds, running_s))

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

    @property
    def prefix_counts(self) -> PrefixCounts:
        """Of prompts' beginnings that are kept, and that were not read again; for metrics."""
        return self._timelines.counts

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
        self._timelines.close()
        self._fail_all(NotAccepting())

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
            while not self._closing:
                if (first := self._choose(waits=not self._timelines.untidy)) is not None:
                    self._deliver(self._step(first))
                elif not self._closing:
                    self._timelines.tidy()
        except BaseException as error:  # a bug of ours: nobody must wait for a thread that is gone
            log.exception("the engine thread died")
            self._fail_all(RuntimeError(f"the engine thread died: {error}"))

    def _choose(self, waits: bool) -> Running | None:
        """Fill free places from the queue and begin the next one's step; None if there is none, or when closing.

        Where it `waits`, until there is one.
        """
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: self._closing or self._queue or self._running)
            if self._closing:
                return None
            for running in [each for each in self._running if each.ticket.cancelled]:
                self._leave(running)
            while self._queue and len(self._running) < self._max_running:
                ticket = self._queue.popleft()
                ticket.start()
                self._running.append(Running(ticket))
            first = next((running for running in self._running if not running.waits), None)
            if first is not None:
                self._stepping, self._step_began = (first,), time.monotonic()
            return first

    def _step(self, first: Running) -> list[tuple[Running, Events]]:
        """Run one chunk or token with its guesses, and take what follows; of each that took part, what is to be told.

        The others of `_company` take the step together with the first.
        """
        try:
            work = first.work or self._begin(first)
            if work is None:
                return []
        except Interrupted:  # it was cancelled, or all is closed
            return []
        except Exception as error:
            return [(first, (Failed(error),))]
        company, alone = self._company(first, work)
        try:
            found = run_works(self._batch, [work for _, work in company], alone)
        except Interrupted:  # of all, by `_cancel` or `close`; the sessions hold what was complete
            return []
        return [
            (running, take_events(running, work, at, self._timelines.note_prompt))
            for (running, work), at in zip(company, found, strict=True)
        ]

    def _company(self, first: Running, work: Work) -> tuple[list[tuple[Running, Work]], bool]:
        """Who steps with the first: all that decode, and a prompt if it has none itself. Their next turn comes last.

        And whether nobody else could have stepped, so that it need not be short.
        """
        company, arena, prompts = [(first, work)], work[0].cache.arena, not work[1].decodes
        with self._changed:
            if self._closing or first.ticket.cancelled:
                return [], True
            shares = self._batch is not None and not work[1].ready
            for other in self._running if shares else ():
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
            return company, all(running is first or running.waits for running in self._running)

    def _begin(self, running: Running) -> Work | None:
        """Its work from now on; None if it still waits or loads, and others are next."""
        with self._changed:
            others = [other for other in self._running if other is not running]
        work = self._timelines.begin(running, others)
        with self._changed:
            running.work = work  # from here on an interruption finds the session; one that came before is seen here
            if running.ticket.cancelled or self._closing:
                raise Interrupted
            if work is None:
                self._running.remove(running)
                self._running.append(running)
        return work

    def _deliver(self, told: Sequence[tuple[Running, Events]]) -> None:
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

    def _leave(self, running: Running) -> None:
        """Give up a place; the session stays for later prompts unless its state is unknown."""
        if running not in self._running:
            return
        self._running.remove(running)
        if running.work is not None:
            session, _ = running.work
            running.work = None  # the answer's memory goes with it
            self._timelines.give_back(session, running.ticket.owner)
        if running.loads is not None:
            session, _ = running.loads
            running.loads = None
            session.close()  # half of what a cache should hold is none
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
