"""The engines, each behind the same three verbs: load, begin a timeline, feed it tokens. Imported only by a worker.

Each is run as its makers would run it for one user on a CPU; what was chosen stands here and nowhere else.
"""

import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from peers.shapes import SHAPES

if TYPE_CHECKING:
    from moedge.runtime.session import Session

Logits = NDArray[np.float32]  # [vocab]
MOST_SESSIONS = 8  # that moedge is asked to run at once
BATCH = 512  # tokens of a prompt that llama.cpp runs at once


class Peer(Protocol):
    """A loaded model with one timeline."""

    def begin(self) -> None:
        """Forget all tokens."""

    def feed(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens; the logits [vocab] after the last."""


@dataclass(frozen=True)
class Job:
    """What a worker loads: a shape's name, the files, threads, and the longest timeline in tokens."""

    shape: str
    path: str
    threads: int
    context: int


class Moedge:
    """moedge, with this machine's own profile but for the threads."""

    def __init__(self, job: Job) -> None:
        from moedge.devices.profile import load_profile
        from moedge.runtime import Engine
        from moedge.runtime.batch import Batch

        profile = load_profile("auto").with_threads(job.threads, "the benchmark")
        slots = 1 + MOST_SESSIONS
        self._engine = Engine.load(job.path, profile, sessions=slots, check_hashes=False, allow_low_memory=True)
        self._batch = Batch(self._engine.program)
        self._company: list[Session] = []
        self.begin()

    def begin(self) -> None:
        """A new session."""
        self._session = self._engine.session()

    def feed(self, token_ids: Sequence[int]) -> Logits:
        """In chunks of the profile."""
        return self._session.prefill(token_ids)

    def begin_together(self, prompts: Sequence[Sequence[int]]) -> None:
        """One timeline after each prompt, for `feed_together`."""
        self._company.clear()  # so that their places are free
        for prompt in prompts:
            self._company.append(self._engine.session())
            self._company[-1].prefill(prompt)

    def feed_together(self, token_ids: Sequence[int]) -> None:
        """A token more in each of them, all in one run."""
        from moedge.runtime.batch import Share

        shares = [Share(session, [token], 1) for session, token in zip(self._company, token_ids, strict=True)]
        self._batch.run(shares)


class LlamaCpp:
    """llama.cpp by its C interface: flash attention, cache in fp16, its CPU's own layout of weights."""

    def __init__(self, job: Job) -> None:
        import llama_cpp

        @llama_cpp.llama_log_callback
        def errors_only(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
            if level == 4:
                print(text.decode(errors="replace"), end="", file=sys.stderr)

        self._lib, self._log = llama_cpp, errors_only  # which the library keeps calling
        llama_cpp.llama_log_set(errors_only, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(job.path.encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {job.path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = job.context, BATCH, BATCH
        params.n_threads = params.n_threads_batch = job.threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
        params.swa_full = False
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def begin(self) -> None:
        """Clears the cache."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def feed(self, token_ids: Sequence[int]) -> Logits:
        """In batches; only the last token has logits."""
        for start in range(0, len(token_ids), BATCH):
            part = token_ids[start : start + BATCH]
            tokens = (self._lib.llama_token * len(part))(*part)
            code = self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(tokens, len(part)))
            if code:
                raise RuntimeError(f"llama_decode failed: {code}")
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, (self._vocab,)).copy()


class Genai:
    """onnxruntime-genai, on a bundle of moedge's or on a model of its own builder."""

    def __init__(self, job: Job) -> None:
        import onnxruntime_genai as og

        config = og.Config(job.path)
        threads = {"intra_op_num_threads": job.threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        self._og, self._model, self._context = og, og.Model(config), job.context
        self.begin()

    def begin(self) -> None:
        """A new generator."""
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=self._context, batch_size=1)
        self._generator = self._og.Generator(self._model, params)

    def feed(self, token_ids: Sequence[int]) -> Logits:
        """Appends, and takes the logits, which is when it runs."""
        self._generator.append_tokens(np.array([token_ids], np.int32))
        return np.array(self._generator.get_logits(), np.float32).reshape(-1, self._vocab())[-1]

    def _vocab(self) -> int:
        return int(np.shape(self._generator.get_logits())[-1])


class Transformers:
    """transformers and torch in bf16, with the implementation of experts that is quickest on a CPU."""

    def __init__(self, job: Job) -> None:
        import torch

        from peers.torch_model import torch_model

        torch.set_num_threads(job.threads)
        self._torch, self._model = torch, torch_model(SHAPES[job.shape], EXPERTS)
        self.begin()

    def begin(self) -> None:
        """A new cache."""
        self._cache: Any = None

    def feed(self, token_ids: Sequence[int]) -> Logits:
        """In one call, as users do."""
        ids = self._torch.tensor([list(token_ids)])
        with self._torch.inference_mode():
            out = self._model(ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values
        logits: Logits = out.logits[0, -1].float().numpy()
        return logits


EXPERTS = "eager"
MAKERS: dict[str, Callable[[Job], Peer]] = {
    "moedge": Moedge,
    "llama.cpp": LlamaCpp,
    "genai": Genai,
    "transformers": Transformers,
}


def open_peer(engine: str, job: Job) -> Peer:
    """The engine of that name ("moedge:native": what stands before the colon), loaded."""
    if not Path(job.path).exists() and not engine.startswith("transformers"):
        raise FileNotFoundError(job.path)
    return MAKERS[engine.partition(":")[0]](job)
