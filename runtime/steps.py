"""One step of an answer: run what it feeds, take what follows, and forget the guesses that were wrong.

Whose turn it is, and who gets the tokens, is `engine.py`'s and `scheduler.py`'s. Between the two halves of a step the
session holds tokens that the answer may not have.
"""

import time

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.generation import Generation, Token
from moedge.runtime.session import Session


def run_step(session: Session, generation: Generation) -> NDArray[np.float32]:
    """Run what the answer feeds next; the logits [1 + guesses, vocab], memory that the next run writes again.

    None, [0, vocab], while there is more of the prompt. Raises as `Session.run` does.
    """
    fed = generation.feed(session.chunk, session.border)
    began = time.perf_counter()
    logits = generation.rows()
    if not len(logits):
        session.append(fed)
    elif len(logits) == 1:
        logits = session.run(fed)[np.newaxis]  # memory that stays bound
    else:
        session.run(fed, logits)
    generation.note_run(time.perf_counter() - began)
    return logits


def take_step(session: Session, generation: Generation, logits: NDArray[np.float32]) -> list[Token]:
    """The tokens that follow; none while there is more of the prompt. The session then holds all of them but the last,
    which is pending, and nothing beside them.

    Raises as `Generation.take` does.
    """
    if not generation.ready:
        return []
    tokens = generation.take_rows(logits)
    go_back(session, generation.ahead + 1 - len(tokens), tokens[-1].token_id)
    return tokens


def go_back(session: Session, count: int, pending: int) -> None:
    """Forget the last `count` tokens; then `pending` is the one that is fed next."""
    if count:
        session.rollback(session.length - count)
    session.pending = pending
