"""The step of one request, or of several together: run what they feed, take what follows; whoever fails fails alone.

Who steps together is scheduler.py's.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.batch import Batch
from moedge.runtime.generation import Token
from moedge.runtime.program import Interrupted
from moedge.runtime.running import Running
from moedge.runtime.sampling import BrokenLogits
from moedge.runtime.session import PromptEnd
from moedge.runtime.steps import Work, run_step, run_steps, take_step
from moedge.runtime.ticket import Failed

Events = Sequence[Token | Failed]


def run_works(batch: Batch | None, works: Sequence[Work], alone: bool) -> list[NDArray[np.float32] | Exception]:
    """Of each the logits that follow, or its failure: several share a run, one has longer pieces of prompts if `alone`.

    Where all of a prompt was there, nothing is run: its end was noted. Raises Interrupted.
    """
    try:
        if batch is not None and len(works) > 1:
            return run_steps(batch, works)
        return [_noted_end(work) if work[1].ready else run_step(*work, alone=alone) for work in works]
    except Interrupted:
        raise
    except Exception as error:
        return [error for _ in works]


def take_events(
    running: Running,
    work: Work,
    found: NDArray[np.float32] | Exception,
    note_prompt: Callable[[int, float], None],
) -> Events:
    """What is to be told of one that has run; nothing while its prompt is read.

    `note_prompt` learns how long that took: tokens and seconds.
    """
    session, generation = work
    if isinstance(found, Exception):  # the session's state is unknown: it is not used again
        running.work = None
        session.close()
        return (Failed(found),)
    if generation.ready and not running.answered:
        running.answered = True
        session.prompt_end = PromptEnd(session.length - generation.ahead, found[0].copy())
        note_prompt(len(running.ticket.token_ids) - running.ticket.cached_tokens, running.ticket.seconds)
    try:
        tokens = take_step(session, generation, found)
    except Exception as error:
        if isinstance(error, BrokenLogits) or not isinstance(error, MoedgeError):
            running.work = None  # its cache may hold what is no number; a refusal leaves it as it is
            session.close()
        return (Failed(error),)
    running.ticket.guessed, running.ticket.guessed_right = generation.guessed, generation.guessed_right
    return tokens


def _noted_end(work: Work) -> NDArray[np.float32]:
    session, _ = work
    assert session.prompt_end is not None, "an answer that feeds nothing begins at a prompt's noted end"
    return session.prompt_end.logits[np.newaxis]
