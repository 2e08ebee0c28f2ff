"""One shape through the engines, in turn: A B C, A B C, each with moedge beside it. figures.py reads the numbers.

Engines that fit into memory together make a group, and moedge's native plan is in every group, so that each ratio is
of two engines that were measured in turn, minutes at most apart.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from peers.engines import Job
from peers.preparing import TOKENS, Place
from peers.process import PeerFailedError, PeerProcess

CLOCK = "moedge:native"
GROUPS = (
    ("llama.cpp:Q4_0", "llama.cpp:Q4_K_M"),
    ("moedge:fused", "moedge:if", "genai:fused", "genai:own"),
    ("transformers:bf16",),
)
LONG = (CLOCK, "llama.cpp:Q4_0")  # take long prompts too, which are minutes each
SLOW = 2  # the group with a tenth of the others' speed
HALF = 2048
DEEP_STEPS = 16
TOGETHER_SHAPE = "granite"  # whose sessions are run at once too; of moedge alone, as the others here have no batches


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    rounds: int = 3
    steps: int = 32
    short: int = 128
    prompt: int = 512
    deep: int = 4096  # 0: left out
    together: tuple[int, ...] = (1, 2, 4, 8)  # sessions at once
    long: int = 0  # a prompt of 8,192 by moedge and Q4_0, for minutes


@dataclass
class Samples:
    """Rates in tokens/s by group, engine and figure, a round after the other; and what else engines said."""

    rates: dict[tuple[int, str, str], list[float]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, group: int, engine: str, figure: str, rate: float) -> None:
        """One rate more."""
        self.rates.setdefault((group, engine, figure), []).append(rate)


def measure_shape(place: Place, engines: Sequence[str], amount: Amount, threads: int) -> Samples:
    """All groups, one after the other; what fails is said on stderr, and is in `failed`."""
    samples = Samples()
    for number, group in enumerate(GROUPS):
        members = [each for each in group if each in engines]
        if number and not members:
            continue
        with_clock = [CLOCK, *members] if CLOCK in engines else members
        _Group(number, place, amount, threads, samples).measure(with_clock)
    return samples


@dataclass
class _Group:
    number: int
    place: Place
    amount: Amount
    threads: int
    samples: Samples
    running: list[PeerProcess] = field(default_factory=list)

    def measure(self, engines: Sequence[str]) -> None:
        amount, first = self.amount, self.number == 0
        with ExitStack() as stack:
            for engine in engines:
                self._start(engine, stack)
            self._each(self._score)
            self._each(lambda peer, _: (peer.ask("prompt", tokens=64, seed=0, marks=[]), self._decode(peer, 0, 4)))
            for number in range(1, amount.rounds + 1):
                self._tell(f"round {number} of {amount.rounds}")
                self._each(self._round, number)
            if first and (deep := self._deepest()):
                self._tell(f"prompt of {deep} tokens")
                self._each(self._deep)
                for number in range(1, amount.rounds + 1):
                    self._each(self._deep_steps, number)
            if first and self.place.shape.name == TOGETHER_SHAPE:
                for number in range(1, amount.rounds + 1):
                    self._tell(f"sessions at once, round {number} of {amount.rounds}")
                    self._each(self._together, number)
            if first and amount.long and amount.long <= self.place.context:
                self._tell(f"prompt of {amount.long} tokens")
                self._each(self._long)
            if first:
                self._each(self._bandwidth)
            self._each(self._memory)

    def _start(self, engine: str, stack: ExitStack) -> None:
        path, said = self.place.path(engine), self.samples.facts.setdefault(engine, {})
        self._tell(f"loading {engine}")
        try:
            job = Job(self.place.shape.name, str(path), self.threads, self._longest())
            peer = stack.enter_context(PeerProcess(engine, job))
        except PeerFailedError as error:
            self._lose(engine, error)
            return
        said.setdefault("load_s", peer.loaded["seconds"])
        self.running.append(peer)

    def _each(self, do: Callable[[PeerProcess, int], object], number: int = 0) -> None:
        """In an order that turns with the rounds."""
        turned = number % max(1, len(self.running))
        for peer in [*self.running[turned:], *self.running[:turned]]:
            try:
                do(peer, number)
            except PeerFailedError as error:
                self._lose(peer.engine, error)
                self.running.remove(peer)

    def _round(self, peer: PeerProcess, number: int) -> None:
        for tokens in (self.amount.short, self.amount.prompt):
            if tokens == self.amount.short and self.number:
                continue
            answer = peer.ask("prompt", tokens=tokens, seed=number, marks=[])
            self.samples.add(self.number, peer.engine, f"prompt {tokens}", tokens / answer["seconds"][-1])
        steps = self.amount.steps // 4 if self.number == SLOW else self.amount.steps
        self._sample(peer, f"decode at {self.amount.prompt}", self._decode(peer, number, steps))
        peer.ask("prompt", tokens=1, seed=number, marks=[])
        self._sample(peer, "decode at 0", self._decode(peer, number, steps))

    def _longest(self) -> int:
        """Tokens that a timeline may come to; only the first group has long ones, the others would take minutes."""
        amount = self.amount
        deep = max(amount.deep + DEEP_STEPS * amount.rounds, amount.long) if self.number == 0 else 0
        return min(self.place.context, max(deep, amount.prompt + amount.steps, TOKENS) + 1)

    def _deepest(self) -> int:
        """The long prompt, or as much of it as is told of and the context holds with the steps after it."""
        room = self.place.context - DEEP_STEPS * self.amount.rounds
        return next((deep for deep in (self.amount.deep, HALF) if deep <= min(room, self.amount.deep)), 0)

    def _deep(self, peer: PeerProcess, _: int) -> None:
        if peer.engine not in LONG:
            return
        tokens = self._deepest()
        marks = [HALF] if tokens > HALF else []
        seconds = peer.ask("prompt", tokens=tokens, seed=99, marks=marks)["seconds"]
        for mark, taken in zip([*marks, tokens], seconds, strict=True):
            self.samples.add(self.number, peer.engine, f"prompt {mark}", mark / taken)

    def _deep_steps(self, peer: PeerProcess, number: int) -> None:
        if peer.engine in LONG:
            self._sample(peer, f"decode at {self._deepest()}", self._decode(peer, number, DEEP_STEPS))

    def _together(self, peer: PeerProcess, number: int) -> None:
        for count in self.amount.together if peer.engine == CLOCK else ():
            order = {"sessions": count, "past": self.amount.short, "tokens": DEEP_STEPS, "seed": 2000 + number}
            seconds = peer.ask("together", **order)["seconds"]
            self.samples.add(self.number, CLOCK, f"{count} at once", count * len(seconds) / sum(seconds))

    def _long(self, peer: PeerProcess, _: int) -> None:
        if peer.engine in LONG:
            seconds = peer.ask("prompt", tokens=self.amount.long, seed=98, marks=[])["seconds"]
            self.samples.add(self.number, peer.engine, f"prompt {self.amount.long}", self.amount.long / seconds[-1])

    def _decode(self, peer: PeerProcess, seed: int, tokens: int) -> list[float]:
        seconds: list[float] = peer.ask("decode", tokens=tokens, seed=1000 + seed)["seconds"]
        return seconds

    def _sample(self, peer: PeerProcess, figure: str, seconds: list[float]) -> None:
        self.samples.add(self.number, peer.engine, figure, len(seconds) / sum(seconds))

    def _score(self, peer: PeerProcess, _: int) -> None:
        said = self.samples.facts[peer.engine]
        if "kl" not in said and self.place.reference.exists():
            self._tell(f"fidelity of {peer.engine}")
            said |= peer.ask("score", reference=str(self.place.reference))

    def _memory(self, peer: PeerProcess, _: int) -> None:
        self.samples.facts[peer.engine].setdefault("memory", peer.ask("memory"))

    def _bandwidth(self, peer: PeerProcess, _: int) -> None:
        if peer.engine == CLOCK:
            self.samples.facts[CLOCK]["bandwidth"] = peer.ask("bandwidth")["bytes_per_s"]

    def _lose(self, engine: str, error: PeerFailedError) -> None:
        print(f"** {self.place.shape.name}: {error}: left out", file=sys.stderr, flush=True)
        self.samples.failed[engine] = str(error)

    def _tell(self, now: str) -> None:
        print(f"{self.place.shape.name}: {now}", file=sys.stderr, flush=True)
