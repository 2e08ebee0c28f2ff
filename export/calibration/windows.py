"""Token windows of text for a calibration: of a file, or of passages of a mix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError

WINDOW = 512  # tokens of a sequence
WINDOWS = 48
HELD = 4
TRIAL_WINDOW = 256  # of a trial, what rounding one part of the model does
TRIAL_WINDOWS = 4


def cut_windows(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    vocab_size: int,
    bos: int | None = None,
    most: int = WINDOWS,
    window: int = WINDOW,
    between: bool = False,
) -> NDArray[np.int64]:
    """At most so many windows [windows, tokens], spread evenly over the texts' tokens, each behind `bos` if given.

    A text too short for all of them gives fewer, and at least one shorter one; MoedgeError if it gives none. Tokens
    that the model has no row for are left out. `between`: at other places, away from both ends of the text.
    """
    ids = np.concatenate([np.array(e.ids, np.int64) for e in tokenizer.encode_batch(texts, add_special_tokens=False)])
    ids = ids[ids < vocab_size]
    room = window - (bos is not None)
    length = min(room, len(ids))
    if length < 2:
        raise MoedgeError("the calibration text has hardly any tokens: take one of some thousand words.")
    count = min(most, len(ids) // length)
    places = (np.arange(count) + 0.5) / count if between else np.linspace(0, 1, count)
    starts = (places * (len(ids) - length)).astype(np.int64)
    windows: NDArray[np.int64] = ids[starts[:, None] + np.arange(length)]
    if bos is None:
        return windows
    return np.concatenate([np.full((count, 1), bos), windows], axis=1)
