"""How one model of a server is loaded and answers: what its options say, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moedge.runtime.chat.wishes import Wishes

# What of sampling may be set for a model, in the names of requests: sampling_fields.py has the bounds of each.
SAMPLING_DEFAULTS = (
    *("temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
)


@dataclass(frozen=True)
class ModelSettings:
    """The options of `moedge serve` that hold per model; see there what they mean.

    Of `max_running` 0, and of `prefix_cache_bytes` None, is for model_room.py to choose before anything is loaded.
    `sampling` has names of SAMPLING_DEFAULTS: they hold where a request says nothing, over what the bundle recommends.
    """

    device: str = "auto"
    allow_slow: bool = False
    allow_low_memory: bool = False
    check_hashes: bool = True
    max_running: int = 2
    max_queued: int = 16
    stalled_after_s: float = 600.0
    wishes: Wishes = field(default_factory=Wishes)
    prompt_lookup_num_tokens: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict)
    prefix_cache_bytes: int | None = None  # of memory, for beginnings of prompts
    cache_dir: Path | None = None
    cache_dir_bytes: int | None = None  # of disk, likewise; None: a part of what is free

    @property
    def places(self) -> int:
        """Requests that may run or wait at once."""
        return self.max_running + self.max_queued


@dataclass(frozen=True)
class ModelChoice:
    """A bundle that shall be served: under `name`, None is the manifest's own, and under these aliases too."""

    folder: Path
    settings: ModelSettings
    name: str | None = None
    aliases: tuple[str, ...] = ()
