"""What `inspect` and `verify` say about a bundle: the same facts as lines for people and as JSON for machines.

Sizes come from sizes.py, problems from integrity.py; nothing is computed here but text.
"""

from typing import Any

from moedge.devices.profile_file import CacheType
from moedge.devices.structure import unstructure
from moedge.runtime.cache.states import count_states
from moedge.runtime.manifest import Manifest
from moedge.runtime.memory_need import memory_need
from moedge.runtime.sizes import (
    bits_per_weight,
    cache_bytes_at,
    cache_bytes_per_token,
    disk_bits_per_weight,
    disk_bytes,
    full_cache_bytes,
    memory_bytes,
    model_memory_bytes,
    state_bytes,
)

# Of the profiles we bring, as the device at hand is not asked: the longest chunk, in tokens, and what caches hold.
PREFILL_CHUNK = 512
CACHE_TYPE: CacheType = "float16"
LENGTHS = (4096, 32768)  # tokens, at which caches are counted


def describe(manifest: Manifest) -> dict[str, Any]:
    """The manifest's facts with the computed sizes beside them, ready for JSON."""
    facts: dict[str, Any] = unstructure(manifest)
    for listed, group in zip(facts["tensors"], manifest.tensors, strict=True):
        listed["bits_per_weight"] = round(disk_bits_per_weight(group), 3)
        listed["estimated_memory_bytes"] = memory_bytes(group, manifest)
    facts["bits_per_weight"] = round(bits_per_weight(manifest), 3)
    facts["disk_bytes"] = disk_bytes(manifest)
    facts["estimated_memory_bytes"] = model_memory_bytes(manifest)
    facts["cache_bytes_per_token"] = cache_bytes_per_token(manifest, CACHE_TYPE)
    facts["state_bytes"] = state_bytes(manifest)
    facts["cache_bytes"] = {str(length): size for length, size in _caches(manifest).items()}
    facts["full_cache_bytes"] = full_cache_bytes(manifest, CACHE_TYPE)
    facts["estimated_need_bytes"] = memory_need(manifest, 1, PREFILL_CHUNK, CACHE_TYPE).total
    return facts


def description_lines(manifest: Manifest) -> list[str]:
    """The same for people, one fact or one tensor group a line."""
    model, experts = manifest.model, manifest.experts
    kind = f"int{experts.bits}" if experts.codes == "integers" else experts.codes
    kernel = "fp32" if not experts.block_size else f"{kind} in blocks of {experts.block_size}"
    kernel += " with zero points" if experts.zero_point else ""
    memory, per_token = model_memory_bytes(manifest), cache_bytes_per_token(manifest, CACHE_TYPE)
    ends = ", ".join(str(token) for token in model.eos_token_ids) or "none"
    return [
        f"{manifest.name}: {model.model_type}, scheme {manifest.scheme}",
        "",
        f"  parameters  {_count(model.total_parameters)} in all, {_count(model.active_parameters)} active for a token",
        f"  layers      {model.num_hidden_layers}, {model.moe_layers} with experts; hidden size {model.hidden_size}",
        f"  experts     {model.num_experts} a layer, {model.num_experts_per_tok} for a token",
        f"  plan        {experts.plan}, {kernel}",
        f"  vocabulary  {model.vocab_size} tokens, ends with {ends}",
        f"  context     {model.context_length} tokens, {_size(per_token)} of cache for each, "
        f"{_size(full_cache_bytes(manifest, CACHE_TYPE))} when full",
        *_state_lines(manifest),
        f"  chat        {model.chat_format}{_template_note(manifest)}",
        f"  on disk     {_size(disk_bytes(manifest))} in {len(manifest.files)} files",
        f"  in memory   {_estimate(memory)}, without cache and scratch",
        f"  to answer   {_estimate(memory_need(manifest, 1, PREFILL_CHUNK, CACHE_TYPE).total)}, with one full context, "
        f"prompts in chunks of {PREFILL_CHUNK}",
        f"  made by     {', '.join(f'{name} {version}' for name, version in manifest.tools.items())}",
        "",
        *_group_lines(manifest),
    ]


def _caches(manifest: Manifest) -> dict[int, int]:
    """By length, the whole context's last."""
    context = manifest.model.context_length
    return cache_bytes_at(manifest, CACHE_TYPE, sorted({*LENGTHS, context}))


def _state_lines(manifest: Manifest) -> list[str]:
    """Where layers are recurrent."""
    size = state_bytes(manifest)
    if not size:
        return []
    kept = count_states(manifest.cache)
    return [f"  states      {_size(size)} of recurrent layers at any length; a session keeps up to {kept}"]


def _template_note(manifest: Manifest) -> str:
    return "" if manifest.chat_template is None else f", template {manifest.chat_template}"


def _group_lines(manifest: Manifest) -> list[str]:
    rows = [("tensors", "scheme", "weights", "bits/weight", "on disk", "in memory")]
    for group in manifest.tensors:
        bits = f"{disk_bits_per_weight(group):.2f}"
        memory = _estimate(memory_bytes(group, manifest))
        rows.append((group.name, group.scheme, _count(group.parameters), bits, _size(group.bytes), memory))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells))
    return lines


def _estimate(size: int | None) -> str:
    return "not estimated" if size is None else f"about {_size(size)}"


def _count(number: int) -> str:
    for unit, letter in ((10**12, " T"), (10**9, " B"), (10**6, " M"), (10**3, " k")):
        if number >= unit:
            return f"{number / unit:.2f}{letter}"
    return str(number)


def _size(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
