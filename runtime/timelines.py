"""The sessions of an engine: which of them, or which kept blocks, a prompt begins with, and what becomes of them after.

A prompt continues the idle session that holds most of it. One that only begins as others do gets a session of its own
and a copy of that beginning, from the session or the blocks that have most of it. What idle sessions hold is copied to
the prefix cache while nothing else is to be done. Nobody is given anything of another owner's. One thread uses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache.reservation import NoRoom
from moedge.runtime.engine import Engine
from moedge.runtime.prefixes.counts import PrefixCounts
from moedge.runtime.prefixes.prefix_cache import Loading, PrefixCache
from moedge.runtime.running import Running
from moedge.runtime.session import Session, begin_at, common
from moedge.runtime.steps import Work
from moedge.runtime.ticket import Ticket

# Tokens. Fewer are not worth a look at the disk, waiting for another one's prompt, or copying all that is before them.
DISK_TOKENS = 128
WAIT_TOKENS = 64
COPY_TOKENS = 32
OPENING_TOKENS = 16  # at a prompt's end, where a template opens the answer, a conversation may part from itself
DISK_SHARE = 0.5  # of the time that reading tokens takes, that loading them may
LOAD_SECONDS = 0.025  # of a step of the scheduler, that others wait for
AT_ONCE_BYTES = 256 << 20  # of a session may be copied in one step; of more, blocks are loaded a part at a time
_TRUST = 0.3  # in a new measurement


@dataclass(eq=False)
class _Idle:
    """A session that nobody uses. Of its blocks, whose `names` are known once they are asked for, `seen` are kept."""

    session: Session
    owner: str
    names: list[bytes] | None = None
    seen: int = 0


@dataclass(frozen=True)
class _Source:
    """Where the first `tokens` of a prompt can be had: of a session, or as blocks, some of them perhaps on disk."""

    tokens: int = 0
    session: Session | None = None
    names: Sequence[bytes] = ()
    disk: bool = False


class Timelines:
    """Up to `places` sessions of an engine, used and idle ones together."""

    def __init__(self, engine: Engine, places: int, prefixes: PrefixCache | None = None) -> None:
        self._reused = PrefixCounts()
        self._engine = engine
        self._places = places
        self._prefixes = prefixes
        self._idle: list[_Idle] = []  # least recently used first
        self._token_seconds = 0.0  # of prompts, a moving average; 0: none was read yet

    def begin(self, running: Running, others: Sequence[Running]) -> Work | None:
        """Its session and its answer; `others` are all that have places beside it.

        None while it waits for another's prompt, or is loading: ask again at its next turn. Raises as
        `Engine.generation` does; NoRoom if there is no memory.
        """
        ticket = running.ticket
        if running.loads is None:
            own = [other for other in others if other.ticket.owner == ticket.owner]
            best, alike = self._best(ticket, own)
            running.awaits = self._awaited(ticket, own, best.tokens)
            if running.awaits is not None:
                return None
            session = self._take(ticket, best, len(others))
            session.mark = begin_at(alike, len(ticket.token_ids), self._engine.program.cut_unit)
            if self._prefixes is None or not best.names or session.length:
                return self._answer(ticket, session)
            running.loads = session, self._prefixes.load(best.names, session.cache, best.disk)
        session, loading = running.loads
        if not loading.go_on(LOAD_SECONDS):
            return None
        running.loads = None
        session.adopt(ticket.token_ids[: loading.finish()])
        return self._answer(ticket, session, loading)

    def note_prompt(self, tokens: int, seconds: float) -> None:
        """So many tokens of a prompt were read in that time."""
        if tokens >= WAIT_TOKENS:
            trust = _TRUST if self._token_seconds else 1.0
            self._token_seconds += trust * (seconds / tokens - self._token_seconds)

    def give_back(self, session: Session, owner: str) -> None:
        """Its request is over: what it holds may be of use to the owner's next one."""
        self._idle.append(_Idle(session, owner))

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._prefixes is not None and any(self._unseen(idle) for idle in self._idle)

    def tidy(self) -> None:
        """Copy a block of an idle session to the prefix cache, of the one that was used last at first."""
        for idle in reversed(self._idle):
            if self._unseen(idle):
                self._copy_next(idle)
                return

    @property
    def counts(self) -> PrefixCounts:
        """Of what is kept, and of what was not read again; any thread may ask."""
        kept, reused = self._prefixes.counts if self._prefixes else PrefixCounts(), self._reused
        return replace(
            kept,
            hits=reused.hits,
            misses=reused.misses,
            session_tokens=reused.session_tokens,
            memory_tokens=reused.memory_tokens,
            disk_tokens=reused.disk_tokens,
        )

    def close(self) -> None:
        """Keep what can be kept quickly; nothing is begun afterwards."""
        if self._prefixes is not None:
            self._prefixes.close()

    def _best(self, ticket: Ticket, own: Sequence[Running]) -> tuple[_Source, int]:
        """Where most of a prompt can be had, and with how many tokens it begins like any other that is known."""
        prompt, best, alike = ticket.token_ids, _Source(), 0
        sessions = [idle.session for idle in self._idle if idle.owner == ticket.owner]
        sessions += [other.work[0] for other in own if other.work is not None]
        for session in sessions:
            best = max(best, _Source(session.shared(prompt), session), key=lambda source: source.tokens)
            alike = max(alike, session.common(prompt))
        if self._prefixes is None or best.tokens == len(prompt):
            return best, alike
        most = begin_at(len(prompt), len(prompt), self._engine.program.cut_unit)
        names, size = self._prefixes.names(ticket.owner, prompt[:most]), self._prefixes.layout.tokens
        kept = self._prefixes.find(names)
        in_memory = kept.in_memory * size
        slow = best.session is not None and best.session.cache.nbytes(best.tokens) > AT_ONCE_BYTES
        if in_memory > best.tokens or (slow and in_memory == best.tokens):
            best = _Source(kept.in_memory * size, names=names[: kept.in_memory])
        saved = kept.everywhere * size - best.tokens
        reading, loading = saved * self._token_seconds, self._prefixes.read_seconds(kept.disk_bytes)
        if saved >= DISK_TOKENS and (not reading or loading <= DISK_SHARE * reading):
            best = _Source(kept.everywhere * size, names=names[: kept.everywhere], disk=True)
        return best, max(alike, kept.alike * size)

    def _awaited(self, ticket: Ticket, own: Sequence[Running], tokens: int) -> tuple[Running, int] | None:
        """Another one that is reading what this prompt begins with, far beyond the `tokens` that there are."""
        prompt, unit, found = ticket.token_ids, self._engine.program.cut_unit, None
        for other in own:
            theirs = other.ticket.token_ids
            if not other.reads:
                continue
            begun = other.work[0].length if other.work is not None else 0
            length = len(prompt) if theirs == prompt else begin_at(common(theirs, prompt), len(prompt), unit)
            if begun < length and length - tokens >= (1 if theirs == prompt else WAIT_TOKENS):
                found, tokens = (other, length), length
        if found is not None and found[0].work is not None:
            session, _ = found[0].work
            session.mark = begin_at(found[1], len(prompt), unit)
        return found

    def _take(self, ticket: Ticket, best: _Source, others: int) -> Session:
        """A session that holds what the prompt goes on from, or nothing if that is in blocks."""
        prompt, going_on = ticket.token_ids, self._going_on(ticket, best.tokens)
        if going_on is not None:
            self._idle.remove(going_on)
            return going_on.session
        session = self._open() if len(self._idle) + others < self._places else None
        if session is None:
            oldest = self._idle.pop(0)
            session = oldest.session
            while self._unseen(oldest):
                self._copy_next(oldest)
            held = session.shared(prompt) if oldest.owner == ticket.owner else 0
            session.rollback(held if held >= best.tokens else 0)
        if best.session is not None and best.session is not session and not session.length:
            session.take_over(best.session, best.tokens)
        return session

    def _going_on(self, ticket: Ticket, tokens: int) -> _Idle | None:
        """The idle session of the conversation that this prompt goes on with, which loses next to nothing.

        None too if of the prompt `tokens` are to be had elsewhere, and that is more than the session has.
        """
        prompt = ticket.token_ids
        own = [(_held(idle.session, prompt), idle) for idle in self._idle if idle.owner == ticket.owner]
        held, idle = max(own, key=lambda each: each[0], default=(0, None))
        if idle is None or tokens - held >= COPY_TOKENS or held < tokens == len(prompt):
            return None
        end, length = idle.session.prompt_end, idle.session.length
        if (end.length if end else length) - idle.session.common(prompt) > OPENING_TOKENS:
            return None
        # all prompts of one template begin alike: what agrees in less than half of the shorter one is another chat
        return idle if 2 * held >= min(length, len(prompt)) else None

    def _open(self) -> Session | None:
        """A new session; None if there is no memory for one, but an idle one whose memory can be had."""
        try:
            return self._engine.session()
        except NoRoom:
            if not self._idle:
                raise
            return None

    def _answer(self, ticket: Ticket, session: Session, loading: Loading | None = None) -> Work:
        rest = session.resume(ticket.token_ids)
        ticket.cached_tokens = held = session.length
        kind = "session_tokens" if loading is None else "disk_tokens" if loading.disk else "memory_tokens"
        for name, more in (("hits", held > 0), ("misses", not held), (kind, held)):
            self._reused = replace(self._reused, **{name: getattr(self._reused, name) + more})
        try:
            return session, self._engine.generation(session, rest, ticket.params)
        except MoedgeError:  # a prompt that is refused; the session is as it was
            self.give_back(session, ticket.owner)
            raise

    def _unseen(self, idle: _Idle) -> bool:
        """Whether there are blocks of it that may have to be copied."""
        if self._prefixes is None or not idle.session.proved:
            return False
        blocks = idle.session.length // self._prefixes.layout.tokens
        return idle.seen < min(blocks, self._prefixes.blocks_in_budget())

    def _copy_next(self, idle: _Idle) -> None:
        """Look at its next blocks up to one that is not kept, and copy that."""
        prefixes, session = self._prefixes, idle.session
        assert prefixes is not None, "there is nothing to copy to"
        if idle.names is None:
            idle.names = prefixes.names(idle.owner, session.tokens)
        copied = False
        while not copied and self._unseen(idle):
            name, idle.seen = idle.names[idle.seen], idle.seen + 1
            last = idle.seen * prefixes.layout.tokens
            if copied := prefixes.lacks(name, session.cache, last):
                prefixes.keep(name, session.cache, last)
        if not self._unseen(idle):
            prefixes.touch(idle.names[: idle.seen])


def _held(session: Session, prompt: Sequence[int]) -> int:
    """How many tokens of the prompt the session would go on from."""
    return len(prompt) if session.ends(prompt) else session.reusable(prompt)
