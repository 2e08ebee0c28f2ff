"""The text of an evaluation: token windows of one length, spread evenly over a file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.quant.fidelity import SKIPPED
from moedge.runtime.manifest import ModelFacts
from moedge.runtime.text import Tokenizer


def read_windows(path: Path, tokenizer: Tokenizer, facts: ModelFacts, tokens: int, window: int) -> NDArray[np.int64]:
    """Windows [tokens / window, window] of a UTF-8 text, none of which overlap.

    Where the tokenizer begins a text with the model's token for that, each window begins with it. MoedgeError if the
    sizes do not fit each other or the context, if the file is no text, if it is too short, or if it holds what the
    model has no token for.
    """
    least, longest = SKIPPED + 2, facts.context_length  # the last position of a window has no token after it
    if not least <= window <= longest:
        raise MoedgeError(f"--window {window} is not within {least} to {longest}, the bundle's context: take another.")
    if tokens < window:
        raise MoedgeError(f"--tokens {tokens} is less than a window of {window}: ask for more, or a smaller --window.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MoedgeError(f"{path} is not UTF-8 text ({error}): give another file.") from None
    bos = facts.bos_token_id
    begin = [bos] if bos is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [bos] else []
    ids = np.array(tokenizer.encode(text), np.int64)
    count, own = tokens // window, window - len(begin)
    if len(ids) < count * own:
        raise MoedgeError(
            f"{path} has {len(ids)} tokens, and {count * own} are asked for: give a longer text, or a smaller --tokens."
        )
    if ids.max() >= facts.vocab_size:
        raise MoedgeError(
            f"{path} has the token {ids.max()}, and the model a vocabulary of {facts.vocab_size}: give another text."
        )
    starts = np.linspace(0, len(ids) - own, count).astype(np.int64)
    return np.stack([np.concatenate([begin, ids[start : start + own]]) for start in starts]).astype(np.int64)
