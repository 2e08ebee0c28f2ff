"""A model that was never exported, from its checkpoint, or from config.json alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import INDEX_NAME, Checkpoint, read_index
from moedge.export.checkpoint.foreign import explain_file, find_shards, list_names
from moedge.export.checkpoint.outline import Outline
from moedge.export.checkpoint.side_config import read_config
from moedge.export.families import read_model_config
from moedge.export.hub.name import HubName, parse_name
from moedge.export.model.config import ModelConfig
from moedge.export.model.layouts import find_spelling
from moedge.export.planning.imagined import Imagined
from moedge.export.planning.modelled import SCHEMES
from moedge.export.planning.unwritten_bundle import outline_manifest
from moedge.export.rehearsal import rehearse
from moedge.export.schemes import parse_plan
from moedge.runtime.manifest import ExpertPlan, Manifest


@dataclass(frozen=True)
class Unmade:
    """A model by its config; `open_source` gives the tensors' outline anew, as each walk keeps its own account."""

    name: str
    model: ModelConfig
    open_source: Callable[[], Outline]
    refuse: Callable[[int, str, ExpertPlan], None] = lambda *_: None  # what an export would refuse
    _made: dict[tuple[str, ExpertPlan, int], Manifest] = field(default_factory=dict, repr=False)

    @property
    def most_context(self) -> int:
        """The positions that the model was made for."""
        return self.model.max_position_embeddings

    @property
    def schemes(self) -> tuple[str, ...]:
        """Those worth a look."""
        return SCHEMES

    def manifest(self, scheme: str, plan: ExpertPlan, context: int) -> Manifest:
        """Of the bundle that an export would make; MoedgeError if the scheme does not fit the model."""
        key = scheme, plan, context
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, scheme: str, plan: ExpertPlan, context: int) -> Manifest:
        schemes = parse_plan(scheme)
        if not schemes.quantized:
            plan = "if"
        self.refuse(context, scheme, plan)
        return outline_manifest(self.name, self.open_source(), self.model, context, schemes, plan)


def open_unmade(given: str) -> Unmade:
    """The checkpoint of a folder, a config.json, or hf://org/name, of which only config and index are fetched."""
    name = parse_name(given)
    if name is not None:
        return _imagine(str(name), _fetch_config(name))
    path = Path(given)
    if path.is_file() and path.suffix == ".json":
        return _imagine(path.parent.resolve().name, _read_file(path))
    if path.is_file():
        raise explain_file(path)
    if not path.is_dir():
        raise MoedgeError(
            f"{given} is nothing that can be planned for: give a bundle, a checkpoint's folder, a config.json, or "
            "hf://org/name."
        )
    return _open_folder(path) if _has_weights(path) else _imagine(path.resolve().name, path)


def _open_folder(folder: Path) -> Unmade:
    """By the headers of its weights, as an export reads them."""
    source = Checkpoint(folder)
    model = read_model_config(Config(source.config, str(folder / "config.json")))
    source.rename(find_spelling(source, model.names))

    def refuse(context: int, scheme: str, plan: ExpertPlan) -> None:
        rehearse(source, model, context, parse_plan(scheme), plan)

    return Unmade(folder.resolve().name, model, lambda: Outline(source), refuse)


def _imagine(name: str, place: Path) -> Unmade:
    folder = place if place.is_dir() else place.parent
    config = read_config(folder) if place.is_dir() else json.loads(place.read_text(encoding="utf-8-sig"))
    model = read_model_config(Config(config, f"{name}: config.json"))
    return Unmade(name, model, lambda: Imagined(config, folder, model.names))


def _read_file(path: Path) -> Path:
    """The path again, if what it names is a JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MoedgeError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"{path} is not valid JSON ({error}): correct it or download it again.") from None
    if not isinstance(data, dict):
        raise MoedgeError(f"{path} is not a JSON object: give the config.json of a model.")
    return path


def _has_weights(folder: Path) -> bool:
    """Whether all of its shards are there; without them its config tells what a plan needs."""
    shards = {*read_index(folder).values()} or {*_found_shards(folder)}
    return bool(shards) and all((folder / shard).is_file() for shard in shards)


def _found_shards(folder: Path) -> list[str]:
    names = list_names(folder)
    return find_shards(folder, names) if any(name.endswith(".safetensors") for name in names) else []


def _fetch_config(name: HubName) -> Path:
    from huggingface_hub import snapshot_download

    from moedge.export.hub.errors import explain_failures

    with explain_failures(str(name)):
        wanted = ["config.json", INDEX_NAME]
        folder = Path(snapshot_download(name.repo, revision=name.revision, allow_patterns=wanted))
    if not (folder / "config.json").is_file():
        raise MoedgeError(f"{name} has no config.json: plan with the repository that has the model in safetensors.")
    return folder
