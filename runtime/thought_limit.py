"""Thinking that ends at a budget: where an answer stands in it, and the tokens that close it once it is spent.

Tags are told from the text that the tokens spell, so that it is all the same whether a vocabulary has tokens for them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ThoughtBudget:
    """At most so many `tokens` of thinking, then those of `cut` are appended and the answer follows.

    `opening` begins thinking and `closing` ends it, in the text of an answer; `opened` where the prompt began it.
    """

    tokens: int
    opening: str
    closing: str
    opened: bool
    cut: tuple[int, ...]


class ThoughtLimit:
    """Of one answer: `forced` is what must come next, empty while the model may go on."""

    def __init__(self, budget: ThoughtBudget) -> None:
        self._budget = budget
        self._left = budget.tokens
        self._said = ""  # the end of the answer, as far as a tag may have begun in it
        self._thinking = budget.opened
        self._over = False
        self.forced: list[int] = []
        self._look()

    def add(self, token_id: int, text: str) -> None:
        """A token was taken, which completed this text."""
        if self.forced:
            self.forced = self.forced[1:] if self.forced[0] == token_id else []
            return
        if self._over:
            return
        self._said += text
        budget = self._budget
        if not self._thinking:
            begun = self._said.lstrip()
            if begun.startswith(budget.opening):
                self._thinking, self._said = True, begun[len(budget.opening) :]
            elif not budget.opening.startswith(begun):
                self._over = True
            self._look()
            return
        self._left -= 1
        if budget.closing in self._said:
            self._over = True
            return
        self._said = self._said[-len(budget.closing) :]
        self._look()

    def _look(self) -> None:
        if self._thinking and self._left <= 0 and not self._over:
            self.forced = [*self._budget.cut]
            self._over = True
