"""Token windows of text for a calibration: of a file, or of passages of a mix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError

WINDOW = 512  # tokens of a sequence
WINDOWS = 48
TRIAL_WINDOW = 256  # of a trial, what rounding one part of the model does
TRIAL_WINDOWS = 4


def cut_windows(
    tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int, bos: int | None = None
) -> NDArray[np.int64]:
    """Windows [windows, tokens] spread evenly over the texts' tokens, each behind `bos` if there is one.

    A text too short for all of them gives fewer, and at least one shorter one; MoedgeError if it gives none. Tokens
    that the model has no row for are left out.
    """
    ids = _read_ids(tokenizer, texts, vocab_size)
    length, count = _fit(ids, WINDOW, WINDOWS, bos)
    return _cut(ids, np.linspace(0, len(ids) - length, count), length, bos)


def cut_trial(tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int, bos: int | None = None) -> NDArray[np.int64]:
    """A few short windows of the same, at other places."""
    ids = _read_ids(tokenizer, texts, vocab_size)
    length, count = _fit(ids, TRIAL_WINDOW, TRIAL_WINDOWS, bos)
    return _cut(ids, (len(ids) - length) * (np.arange(count) + 0.5) / count, length, bos)


def _read_ids(tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int) -> NDArray[np.int64]:
    ids = np.concatenate([np.array(e.ids, np.int64) for e in tokenizer.encode_batch(texts, add_special_tokens=False)])
    return ids[ids < vocab_size]


def _fit(ids: NDArray[np.int64], window: int, windows: int, bos: int | None) -> tuple[int, int]:
    """Tokens of a window without `bos`, and how many windows these tokens give."""
    length = min(window - (bos is not None), len(ids))
    if length < 2:
        raise MoedgeError("the calibration text has hardly any tokens: take one of some thousand words.")
    return length, min(windows, len(ids) // length)


def _cut(ids: NDArray[np.int64], starts: NDArray[np.float64], length: int, bos: int | None) -> NDArray[np.int64]:
    windows: NDArray[np.int64] = ids[starts.astype(np.int64)[:, None] + np.arange(length)]
    if bos is None:
        return windows
    return np.concatenate([np.full((len(windows), 1), bos), windows], axis=1)
