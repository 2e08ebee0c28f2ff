"""Whether a model fits into memory beside those that are there, and which of them it takes the place of.

An estimate from manifests, made before anything is loaded; what a model takes is runtime/memory_need.py's.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory, detect_memory
from moedge.devices.profile import Profile, load_profile
from moedge.edge_server.models.served_models import ServedModel
from moedge.runtime.memory_need import (
    MemoryNeed,
    check_memory,
    memory_need,
    prefix_budget,
    size_text,
    usable_bytes,
    usual_sessions,
)

log = logging.getLogger(__name__)


class NoRoomForModel(MoedgeError):  # noqa: N818 - when other models have answered there may be room
    """What is in memory, and may not be put out of it, leaves too little."""


class ModelRoom:
    """The memory of a machine, this one if none is given, which models share."""

    def __init__(self, machine: Memory | None = None) -> None:
        self._given = machine
        self._profiles: dict[str, Profile] = {}  # by what --device says; detecting takes a while
        self._needs: dict[str, MemoryNeed] = {}  # by the model's name

    def settle(self, models: Sequence[ServedModel]) -> None:
        """Put numbers in the place of what nobody said: how many requests at once, and memory for prompts' beginnings.

        Of the latter each of several models gets its part.
        """
        for model in models:
            settings, profile = model.settings, self._profile(model)
            running = settings.max_running or usual_sessions(model.manifest, profile, self._machine)
            kept = settings.prefix_cache_bytes
            if kept is None:
                kept = prefix_budget(model.manifest, profile, self._machine, running) // len(models)
            model.settings = replace(settings, max_running=running, prefix_cache_bytes=kept)

    def check_alone(self, model: ServedModel) -> None:
        """MoedgeError with the numbers if memory would not hold the model with nothing beside it."""
        settings = model.settings
        if self._need(model).total > self._has(model) and not settings.allow_low_memory:
            kept = settings.prefix_cache_bytes or 0
            profile = self._profile(model)
            check_memory(model.manifest, profile, self._machine, settings.max_running, prefixes=kept)

    def victims(self, model: ServedModel, there: Sequence[ServedModel]) -> list[ServedModel]:
        """Those of the models in memory that must go for this one: idle ones, least recently used first.

        NoRoomForModel with the numbers if it would not fit then either; with its setting `allow_low_memory` all idle
        ones go, and a warning is logged instead.
        """
        has, need = self._has(model), self._need(model).total
        kept = {each.name: self._beside(each) for each in there}
        gone: list[ServedModel] = []
        for each in sorted(there, key=lambda each: each.used):
            if need + sum(kept.values()) <= has:
                break
            if each.idle:
                gone.append(each)
                del kept[each.name]
        if kept and need + sum(kept.values()) > has:
            stays = ", ".join(f"{name} ({size_text(size)})" for name, size in kept.items())
            wants = (
                f"{model.name} needs about {size_text(need)} of memory beside {stays}, which requests use now, "
                f"and this device has {size_text(has)}"
            )
            if not model.settings.allow_low_memory:
                raise NoRoomForModel(f"{wants}: try again later.")
            log.warning("%s; the system may end moedge.", wants)
        return gone

    def check_together(self, models: Sequence[ServedModel]) -> None:
        """MoedgeError with the numbers if memory would not hold all of these at once."""
        for last, model in enumerate(models):
            beside = sum(self._beside(each) for each in models[:last])
            need, has = self._need(model).total, self._has(model)
            if beside and need + beside > has and not model.settings.allow_low_memory:
                sizes = ", ".join(f"{each.name} {size_text(self._beside(each))}" for each in models[:last])
                raise MoedgeError(
                    f"{model.name} needs about {size_text(need)} of memory beside the others ({sizes}) and this "
                    f"device has {size_text(has)}: load models on demand with `--preload first`, or ask for fewer "
                    "answers at once with `--max-running`."
                )

    def _beside(self, model: ServedModel) -> int:
        """Bytes that a model takes once it is loaded, the program aside, which all share."""
        need = self._need(model)
        return need.weights + need.caches + need.scratch + need.prefixes

    @cached_property
    def _machine(self) -> Memory:
        return self._given or detect_memory()

    def _need(self, model: ServedModel) -> MemoryNeed:
        if model.name not in self._needs:
            profile, settings = self._profile(model), model.settings
            self._needs[model.name] = memory_need(
                model.manifest,
                settings.max_running,
                profile.prefill_chunk,
                profile.cache_type,
                settings.prefix_cache_bytes or 0,
            )
        return self._needs[model.name]

    def _has(self, model: ServedModel) -> int:
        return usable_bytes(self._profile(model), self._machine)

    def _profile(self, model: ServedModel) -> Profile:
        name = model.settings.device
        if name not in self._profiles:
            self._profiles[name] = load_profile(name)
        return self._profiles[name]
