"""The models of a server and what they are called: bundles opened, names and aliases told apart. Nothing is loaded."""

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.model_settings import ModelChoice, ModelSettings
from moedge.runtime.integrity import open_bundle
from moedge.runtime.manifest import Manifest

LONGEST_NAME = 256  # characters
MOST_TOLD = 20  # names in one sentence


@dataclass(eq=False)
class ServedModel:
    """One model that requests may name. What may change is the residents' (residents.py), who alone write it."""

    name: str
    aliases: tuple[str, ...]
    folder: Path
    manifest: Manifest
    settings: ModelSettings
    created: int = field(default_factory=lambda: int(time.time()))  # seconds since 1970
    loaded: Loaded | None = None
    moving: bool = False  # into memory or out of it
    leases: int = 0  # requests that have it
    waiting: int = 0  # requests that wait until it is loaded
    used: float = 0.0  # when the last lease ended, on the monotonic clock
    failed: float | None = None  # when it last failed to load, likewise

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to, its own name first."""
        return self.name, *self.aliases

    @property
    def idle(self) -> bool:
        """Whether it is in memory and no request needs it there; a hung one stays, so that /livez sees it."""
        if self.loaded is None or self.leases:
            return False
        return self.loaded.scheduler.idle and self.loaded.scheduler.healthy


def open_models(
    choices: Sequence[ModelChoice], aliases: Sequence[str] = (), open_: Callable[[Path], Manifest] | None = None
) -> tuple[ServedModel, ...]:
    """The models of these bundles, one at least, after every check of theirs but that of the hashes.

    `aliases` are texts NAME=MODEL, of which MODEL is a name, or the path of a bundle as it was given. MoedgeError for a
    bundle that is damaged, a name that two have, or one that no request can spell.
    """
    read = open_ or (lambda folder: open_bundle(folder, check_hashes=False))
    manifests = [read(choice.folder) for choice in choices]
    names = [choice.name or manifest.name for choice, manifest in zip(choices, manifests, strict=True)]
    more = _alias_lists(choices, names, aliases)
    _refuse_doubles(choices, names, more)
    return tuple(
        ServedModel(name, (*choice.aliases, *added), choice.folder, manifest, choice.settings)
        for choice, manifest, name, added in zip(choices, manifests, names, more, strict=True)
    )


def find_model(models: Sequence[ServedModel], name: str | None) -> ServedModel:
    """The model of that name or alias, the first for None; ApiError 404 that says which there are."""
    if name is None:
        return models[0]
    known = {each: model for model in models for each in model.names}
    if name in known:
        return known[name]
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    told = [repr(each) for each in known]
    names = ", ".join(told[:MOST_TOLD]) + (f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else "")
    raise ApiError(404, f"There is no model {shown!r}: this server has {names}.", param="model", code="model_not_found")


def _alias_lists(choices: Sequence[ModelChoice], names: Sequence[str], aliases: Sequence[str]) -> list[list[str]]:
    """The names that each model gets from the texts NAME=MODEL."""
    found: list[list[str]] = [[] for _ in choices]
    for text in aliases:
        alias, equals, wanted = text.partition("=")
        if not equals or not alias.strip() or not wanted.strip():
            raise MoedgeError(f"the alias {text!r} is not of the form NAME=MODEL.")
        alias, wanted = alias.strip(), wanted.strip()
        places = [place for place, name in enumerate(names) if name == wanted]
        path = Path(wanted).resolve()
        places = places or [place for place, choice in enumerate(choices) if choice.folder.resolve() == path]
        if not places:
            close = difflib.get_close_matches(wanted, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the models are {', '.join(names)}."
            raise MoedgeError(f"the alias {alias} is for {wanted}, which is not served: {hint}")
        if len(places) > 1:
            raise MoedgeError(f"the alias {alias} is for {wanted}, which two models are called: see --served-name.")
        found[places[0]].append(alias)
    return found


def _refuse_doubles(choices: Sequence[ModelChoice], names: Sequence[str], more: Sequence[Sequence[str]]) -> None:
    taken: dict[str, Path] = {}
    for choice, name, added in zip(choices, names, more, strict=True):
        for each in (name, *choice.aliases, *added):
            if not 0 < len(each) <= LONGEST_NAME or not each.isprintable() or each != each.strip():
                raise MoedgeError(
                    f"{each[:LONGEST_NAME]!r} cannot be the name of a model: it must have 1 to {LONGEST_NAME} letters "
                    "that can be shown, without blanks around them."
                )
            if each in taken:
                raise MoedgeError(
                    f"{taken[each]} and {choice.folder} would both be called {each}: name them apart with "
                    "--served-name, once a bundle, or with name and aliases in the --config file."
                )
            taken[each] = choice.folder
