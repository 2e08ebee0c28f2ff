"""llama.cpp through llama-cpp-python: it quantizes the F32 GGUF, with or without importance, and scores windows.

Rows of 576 are no multiple of 256, so that llama.cpp gives most matrices of a K-quant other formats (Q5_0, Q8_0): such
a file has more bits than its name says, and the table says how many and in which formats. What its mixtures would be
where rows are multiples of 256 is ggml_blocks.py's.
"""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np

from fidelity.model import Array

ERROR = 4  # of ggml's log levels


@llama_cpp.llama_log_callback
def errors_only(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Its log has a line a tensor: of that only errors, on stderr."""
    if level == ERROR:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


def quantize(source: Path, path: Path, file_type: str, moments: dict[str, Array] | None, threads: int) -> None:
    """Write `path` in a type of llama-quantize, with importance where there are moments. RuntimeError if it fails."""
    llama_cpp.llama_log_set(errors_only, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{file_type}"), threads
    if moments is not None:
        rows = {name: np.ascontiguousarray(moment.reshape(-1), np.float32) for name, moment in moments.items()}
        params.imatrix = importance(rows)  # borrows: rows must live until the call below is over
    partial = path.with_suffix(".partial")
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), params)
    if code:
        raise RuntimeError(f"llama.cpp could not quantize {source} as {file_type}: {code}")
    partial.rename(path)


def importance(rows: dict[str, Array]) -> ctypes.Array[llama_cpp.llama_model_imatrix_data]:
    """The array that llama.cpp reads, ended by an empty entry: mean squares by tensor, an expert after the other.

    This is what llama-quantize makes of the file that llama-imatrix writes; the library has no reader for such files.
    """
    entries = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()
    for entry, (name, row) in zip(entries, rows.items(), strict=False):
        entry.name, entry.size = name.encode(), len(row)
        entry.data = row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return entries


def logits_of(path: Path, ids: np.ndarray, threads: int) -> Iterator[Array]:
    """Logits [tokens, vocab] window by window, each from an empty cache."""
    llm = llama_cpp.Llama(
        str(path),
        n_ctx=ids.shape[1],
        n_batch=ids.shape[1],
        logits_all=True,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    for row in ids:
        llm.reset()
        llm.eval(row.tolist())
        yield np.array(llm.scores[: len(row)], np.float32)
    llm.close()
