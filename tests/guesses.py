"""What tests of guesses share: a cost that always allows them, and an answer that tells how many there were."""

from moedge.runtime.prompt_lookup import StepCost
from moedge.runtime.steps import run_step, take_step


class Free(StepCost):
    """Guesses cost nothing, so that all are made, whatever this machine does meanwhile."""

    def guesses_that_pay(self, chance: float, most: int, beside: int = 0) -> int:
        return most


class Told:
    """In the place of a lookup: it knows what comes, and is wrong about every fourth token."""

    def __init__(self, token_ids, most=6):
        self.cost = Free()
        self._left, self._most, self._count = list(token_ids), most, 0

    def add(self, token_id):
        self._left, self._count = self._left[1:], self._count + 1

    def guess(self, most, beside=0):
        told = self._left[: min(most, self._most)]
        return [token if (self._count + i) % 4 < 3 else (token + 1) % 200 for i, token in enumerate(told)]


def answer(engine, prompt, params, session=None, lookup=None):
    """The tokens, what the session holds after them, and how many were guessed, and rightly."""
    session = session or engine.session()
    generation = engine.generation(session, prompt, params)
    generation._lookup = lookup or generation._lookup
    tokens = []
    while generation.finish_reason is None:
        tokens += take_step(session, generation, run_step(session, generation))
    return tokens, (session.tokens, session.pending), (generation.guessed, generation.guessed_right)
