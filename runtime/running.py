"""A request that has a place in the scheduler: what it waits for before its first step, and then its work."""

from __future__ import annotations

from dataclasses import dataclass

from moedge.runtime.prefixes.prefix_cache import Loading
from moedge.runtime.session import Session
from moedge.runtime.steps import Work
from moedge.runtime.ticket import Ticket


@dataclass(eq=False)
class Running:
    """`work` from its first step on. Before that it may wait for another's prompt, or for blocks.

    `awaits`: another request, and how many tokens of its prompt this one goes on from once they are read. `loads`: a
    session of its own that is being filled. `answered`: its prompt is read, the first token was taken.
    """

    ticket: Ticket
    work: Work | None = None
    awaits: tuple[Running, int] | None = None
    loads: tuple[Session, Loading] | None = None
    answered: bool = False

    @property
    def reads(self) -> bool:
        """Whether its prompt is being read."""
        begun = self.work is not None or self.loads is not None
        return begun and not self.answered and not self.ticket.cancelled

    @property
    def waits(self) -> bool:
        """Whether what it awaits is still to come."""
        if self.awaits is None:
            return False
        other, length = self.awaits
        return other.reads and (other.work is None or other.work[0].length < length)
