"""One step of an answer, or of several at once: run what is fed, take what follows, forget guesses that were wrong.

Whose turn it is, and who gets the tokens, is `engine.py`'s and `scheduler.py`'s. Between the two halves of a step the
session holds tokens that the answer may not have.
"""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.batch import Batch, Share
from moedge.runtime.generation import Generation, Token
from moedge.runtime.program import Interrupted
from moedge.runtime.sampling import MOST_GUESSES
from moedge.runtime.session import Session

Work = tuple[Session, Generation]


def run_step(session: Session, generation: Generation, alone: bool = True) -> NDArray[np.float32]:
    """Run what the answer feeds next; the logits [1 + guesses, vocab], memory that the next run writes again.

    None, [0, vocab], while there is more of the prompt, of which less is run if the answer is not `alone`. Raises as
    `Session.run` does.
    """
    reads = not generation.decodes
    fed = generation.feed(_most(session, generation, alone), session.border)
    began = time.perf_counter()
    logits = _run(session, fed, generation.rows())
    seconds = time.perf_counter() - began
    generation.note_run(len(logits), seconds)
    if reads:
        session.note_piece(len(fed), seconds)
    return logits


def run_steps(batch: Batch, works: Sequence[Work]) -> list[NDArray[np.float32] | Exception]:
    """The same for several answers at once: of each the logits, none while there is more of its prompt, or its failure.

    A run that fails is told of nobody: each is run alone then, so that only those fail whose fault it is. Guesses share
    what one answer alone may have. Raises Interrupted if the batch was, or a session that is run alone; what was
    fed is lost then: the answers cannot go on.
    """
    decoding = sum(generation.decodes for _, generation in works)
    most = 1 + MOST_GUESSES // max(1, decoding)
    shares, reading = list[Share](), list[tuple[Session, int]]()
    for session, generation in works:
        decodes = generation.decodes
        fed_most = min(most, session.chunk) if decodes else _most(session, generation, False)
        fed = generation.feed(fed_most, session.border, decoding - decodes)
        shares.append(Share(session, fed, 1 + generation.ahead if generation.ready else 0))
        reading += [] if decodes else [(session, len(fed))]
    began = time.perf_counter()
    try:
        found = batch.run(shares)
    except Interrupted:
        raise
    except Exception:
        return [_run_alone(*work, share.token_ids) for work, share in zip(works, shares, strict=True)]
    seconds, rows = time.perf_counter() - began, sum(share.wanted for share in shares)
    for session, count in reading:
        session.note_piece(count, seconds)
    if decoding == len(works):  # what all have in common is learnt once
        for generation in [each for _, each in works if each.guesses][:1]:
            generation.note_run(rows, seconds)
    return [*found]


def _most(session: Session, generation: Generation, alone: bool) -> int:
    """How many tokens may be fed: of a prompt a piece, behind its end or an answer's last token what is guessed too."""
    piece = session.piece(generation.unfed, alone)
    return piece if piece < generation.unfed else max(piece, session.chunk)


def _run_alone(session: Session, generation: Generation, fed: Sequence[int]) -> NDArray[np.float32] | Exception:
    try:
        return _run(session, fed, generation.rows())
    except Interrupted:
        raise
    except Exception as error:
        return error


def _run(session: Session, fed: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(logits):
        session.append(fed)
    elif len(logits) == 1:
        return session.run(fed)[np.newaxis]  # memory that stays bound
    else:
        session.run(fed, logits)
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
