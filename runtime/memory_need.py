"""Whether a bundle fits into memory: what it takes to answer with it, against what there is. Nothing is allocated here.

An estimate, made before anything is loaded; sizes of weights are sizes.py's, of caches the cache's own.
"""

import sys
from dataclasses import dataclass

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.devices.profile import Profile
from moedge.devices.profile_file import CacheType
from moedge.runtime.manifest import ROUTED_EXPERTS, Manifest
from moedge.runtime.sampling import MOST_GUESSES
from moedge.runtime.sizes import full_cache_bytes, loading_bytes, memory_bytes

FLOAT_BYTES = 4
# A session's own, its row of a batch's, that of its prompt's end, and an answer's with guesses.
LOGITS_ROWS = 4 + MOST_GUESSES
# Python, onnxruntime and the rest of moedge: 64 MiB resident before a load, with the endpoint 77 (x86-64, 2026-11-26).
PROGRAM_BYTES = 80 << 20
# Of a token's hidden state, how many copies are held at once: residual, normed, queries, keys, values, results.
HIDDEN_COPIES = 8
# Of the channels that a recurrent layer convolves: joined with others, apart, and behind the convolution.
CHANNEL_COPIES = 3
# Attention of plain operators holds its scores as they come, joined, as probabilities and cut in two.
SCORE_COPIES = 4
# moedge's attention goes through a context in runs of a fixed length.
ATTENTION_BYTES = 16 << 20
SESSIONS_OPTION = "--max-running"  # of `moedge serve`
PREFIX_SHARE = 10  # what is free beside all of this, divided by it, is for prompts' beginnings unless told
USUAL_SESSIONS = 4  # that a server answers at once unless told, where memory holds their contexts


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes, estimated, that answering takes when every one of `sessions` holds a full context."""

    weights: int
    caches: int  # of all sessions
    scratch: int
    program: int
    sessions: int
    loading: int = 0  # beside the weights, before there are caches
    prefixes: int = 0  # for prompts' beginnings that are kept (docs/prefix_cache.md)

    @property
    def total(self) -> int:
        """The most that is taken at once."""
        return self.weights + max(self.caches + self.scratch + self.prefixes, self.loading) + self.program


def memory_need(
    manifest: Manifest, sessions: int, prefill_chunk: int, cache_type: CacheType, prefixes: int = 0
) -> MemoryNeed:
    """What `sessions` timelines of this bundle take at full context, prompts being run `prefill_chunk` tokens at once.

    `cache_type` are the numbers of caches that the profile chooses for, `prefixes` the bytes that prompts' beginnings
    may take beside them.

    The scheduler keeps as many sessions as it has places, running or idle, and a step has a chunk of one prompt at
    most: caches count for all of them, scratch once; logits for all, those of an answer's guesses too. Weights that
    onnxruntime may unpack (blocks of the `if` plan) count as on disk, which is the least they take. The vocabulary of
    the tokenizer is not counted.
    """
    logits = LOGITS_ROWS * manifest.model.vocab_size * FLOAT_BYTES
    sizes = [(memory_bytes(group, manifest), group.bytes) for group in manifest.tensors]
    return MemoryNeed(
        weights=sum(on_disk if loaded is None else loaded for loaded, on_disk in sizes),
        caches=sessions * full_cache_bytes(manifest, cache_type),
        scratch=scratch_bytes(manifest, prefill_chunk) + sessions * logits,
        program=PROGRAM_BYTES,
        sessions=sessions,
        loading=loading_bytes(manifest),
        prefixes=prefixes,
    )


def usable_bytes(profile: Profile, machine: Memory) -> int:
    """The device's memory: the profile's or this machine's, whichever is smaller."""
    return min(profile.memory_budget_bytes, machine.usable_bytes)


def prefix_budget(manifest: Manifest, profile: Profile, machine: Memory, sessions: int) -> int:
    """Bytes that a server keeps of prompts' beginnings unless it is told: a share of what answering leaves free."""
    need = memory_need(manifest, sessions, profile.prefill_chunk, profile.cache_type)
    return max(0, usable_bytes(profile, machine) - need.total) // PREFIX_SHARE


def usual_sessions(manifest: Manifest, profile: Profile, machine: Memory) -> int:
    """How many requests a server answers at once unless it is told: USUAL_SESSIONS, or as many as memory holds.

    Where they take turns, which makes none of them faster, two: one long answer does not keep all others waiting.
    """
    most = USUAL_SESSIONS if manifest.experts.plan == "native" else 2
    has = usable_bytes(profile, machine)
    for sessions in range(most, 1, -1):
        if memory_need(manifest, sessions, profile.prefill_chunk, profile.cache_type).total <= has:
            return sessions
    return 1


def scratch_bytes(manifest: Manifest, prefill_chunk: int) -> int:
    """Bytes of activations while `s` tokens of a prompt are run at the end of a full context of `t`.

    4 s (8 hidden + k width), the second term the outputs of a token's k experts, gate and up and down; where layers are
    recurrent, 12 s channels more, those that a convolution has at most; where attention is plain operators (layout
    `rows` without a window), 16 s t heads more; where it is moedge's, ATTENTION_BYTES; and where the plan is `if` and
    weights are quantized, one fp32 matrix of the vocabulary, the largest that is unpacked at a run.
    """
    model = manifest.model
    tokens, context = min(prefill_chunk, model.context_length), model.context_length
    channels = max(
        (tensor.shape[-1] for tensor in manifest.cache if tensor.is_state and len(tensor.shape) == 2), default=0
    )
    numbers = tokens * (HIDDEN_COPIES * model.hidden_size + _experts_width(manifest) + CHANNEL_COPIES * channels)
    if any(tensor.layout == "rows" and not tensor.window for tensor in manifest.cache):
        numbers += SCORE_COPIES * tokens * context * model.num_attention_heads
    if any(memory_bytes(group, manifest) is None for group in manifest.tensors):
        numbers += model.vocab_size * model.hidden_size
    ours = any(tensor.layout == "native" for tensor in manifest.cache)
    return numbers * FLOAT_BYTES + ours * ATTENTION_BYTES


def _experts_width(manifest: Manifest) -> int:
    """Rows of gate, up and down of a token's experts in one layer, from how many weights all experts hold."""
    model = manifest.model
    weights = sum(group.parameters for group in manifest.tensors if group.name == ROUTED_EXPERTS)
    experts = model.moe_layers * model.num_experts
    return model.num_experts_per_tok * weights // (experts * model.hidden_size) if experts else 0


def check_memory(
    manifest: Manifest,
    profile: Profile,
    machine: Memory,
    sessions: int,
    allow_low_memory: bool = False,
    asked_by: str = SESSIONS_OPTION,
    prefixes: int = 0,
) -> None:
    """Return if the bundle fits into the device's memory; a warning on stderr if it would not into what is free now.

    The device's memory is `usable_bytes`; `asked_by` is the option that said how many sessions, `prefixes` what
    `memory_need` is told. MoedgeError with the numbers if that does not hold the bundle; with `allow_low_memory` a
    warning instead.
    """
    need = memory_need(manifest, sessions, profile.prefill_chunk, profile.cache_type, prefixes)
    has = usable_bytes(profile, machine)
    kept = f"prompts' beginnings {size_text(need.prefixes)}, " if need.prefixes else ""
    loading = f", or while loading {size_text(need.loading)} beside the weights" if need.loading else ""
    wants = (
        f"{manifest.name} needs about {size_text(need.total)} of memory (weights {size_text(need.weights)}, caches of "
        f"{_count(sessions, 'full context')} {size_text(need.caches)}, scratch {size_text(need.scratch)}, "
        f"{kept}program {size_text(need.program)}{loading})"
    )
    if need.total > has and not allow_low_memory:
        raise MoedgeError(f"{wants} and this device has {size_text(has)}: {_ways_on(need, has, asked_by)}.")
    if need.total > has:
        print(f"warning: {wants} and this device has {size_text(has)}; the system may end moedge.", file=sys.stderr)
    elif need.total - need.program > machine.available_bytes:  # most of the program is there already
        free = f"{size_text(machine.available_bytes)} of {size_text(has)}"
        print(f"warning: {wants} and only {free} are free now: close other programs.", file=sys.stderr)


def _ways_on(need: MemoryNeed, has: int, asked_by: str) -> str:
    ways = []
    if need.weights + need.loading + need.program < has:
        ways.append("export with a shorter context (`moedge export --context N`)")
        if need.sessions > 1:
            ways.append(f"ask for fewer than {need.sessions} at once (`{asked_by}`)")
    ways.append("export with a leaner `--scheme`")
    return ", ".join(ways) + ", or pass --allow-low-memory to load it all the same"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_text(count: int) -> str:
    """A number of bytes as sentences have it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
