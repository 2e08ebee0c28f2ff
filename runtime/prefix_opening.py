"""From an engine and what a server was told to its prefix cache: budgets, identity and layout of the blocks."""

from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import detect_memory
from moedge.runtime.cache.cache_blocks import BlockLayout
from moedge.runtime.engine import Engine
from moedge.runtime.memory_need import prefix_budget
from moedge.runtime.pace import UNIT
from moedge.runtime.prefixes.identity import identity_of
from moedge.runtime.prefixes.prefix_cache import PrefixCache


def open_prefixes(
    engine: Engine, sessions: int, memory_bytes: int | None, cache_dir: Path | None, disk_bytes: int | None
) -> PrefixCache | None:
    """A prefix cache beside so many sessions; None where its memory would not hold a block, or nothing is to be kept.

    None for the bytes: what the device has to spare. MoedgeError if the folder cannot be used.
    """
    program = engine.program
    if memory_bytes is None:
        memory_bytes = prefix_budget(engine.manifest, engine.profile, detect_memory(), sessions)
    cache = program.open_cache()
    layout = BlockLayout.of(cache, max(UNIT, program.cut_unit))
    cache.close()
    if not 0 < layout.nbytes(-1) <= memory_bytes:
        if cache_dir is not None:
            raise MoedgeError(
                f"prefixes in {cache_dir} need {layout.nbytes(-1)} bytes of memory for each {layout.tokens} tokens and "
                f"have {memory_bytes} in all: give them more, or no folder."
            )
        return None
    library = program.library.path if program.library else None
    identity = identity_of(engine.manifest, engine.profile.cache_type, engine.profile.isa, library)
    return PrefixCache(identity, layout, memory_bytes, cache_dir, disk_bytes)
