"""A checkpoint on the Hugging Face hub as a folder in the local cache: `hf://org/name[@revision]`.

It fetches the small files, has everything decided that they and the headers of the weights tell (preview.py, fit.py),
and only then fetches the safetensors files: nothing else of the repository, and never code. Transfer, cache, token and
offline mode are huggingface_hub's; its failures become sentences in errors.py.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from moedge.devices.detect import detect
from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import INDEX_NAME, read_index
from moedge.export.checkpoint.foreign import SINGLE_NAME, explain_missing, find_shards, list_names
from moedge.export.checkpoint.side_config import SIDE_NAMES
from moedge.export.hub.errors import explain_failures
from moedge.export.hub.fit import Space, estimate, memory_note, refuse_too_large
from moedge.export.hub.name import HubName
from moedge.export.hub.preview import ShardHeader, TensorHeader, preview
from moedge.export.options import ExportOptions, HubCommit, refuse_target
from moedge.export.planning.fitting import refuse_unfit
from moedge.export.rehearsal import rehearse
from moedge.export.sensitivity.planning import Planner
from moedge.export.understanding import understand
from moedge.export.writing.publish import partial_folder

# All that is not weights: what a model is, how it is tokenized, how it talks.
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tiktoken.model",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    *SIDE_NAMES,
    INDEX_NAME,
)
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
MOST_SMALL_BYTES = 256 << 20  # the index of a checkpoint with a million tensors takes less
_AT_ONCE = 8  # headers that are asked for at the same time


def fetch(name: HubName, target: Path, options: ExportOptions, say: Callable[[str], None]) -> tuple[Path, HubCommit]:
    """The folder of the checkpoint with all that an export to `target` reads, and where it came from.

    MoedgeError before any weight is fetched if the export could not succeed, as far as that can be told: an unknown
    family or number format, no tokenizer, tensors that are missing, misshapen or left over, too little disk, or a
    target that cannot be written. `say` gets what is worth knowing before the weights are fetched.
    """
    options = options.decided()
    plan = options.plan
    refuse_target(target, options)
    api = HfApi(library_name="moedge")
    with explain_failures(str(name)):
        revision = api.resolve_revision(name.repo, revision=name.revision, local_files_only=constants.HF_HUB_OFFLINE)
        if not constants.HF_HUB_OFFLINE and not _is_cached(name, revision.resolved):
            _refuse_huge(api, name, revision.resolved)
        folder = Path(snapshot_download(name.repo, revision=revision, allow_patterns=list(SMALL_FILES)))
    small = [folder / file for file in SMALL_FILES if (folder / file).is_file()]
    names = _list_names(api, name, folder)
    if "config.json" not in names:
        raise explain_missing(name, names, "config.json")
    # No tensor at all: what family, quantization and tokenizer are is decided without a look at the weights.
    with preview(str(name), (file for file in small if file.name != INDEX_NAME), {SINGLE_NAME: {}}) as checkpoint:
        understand(checkpoint, options)

    shards = _shards(name, folder, names)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    sizes, to_fetch = _bytes_to_fetch(api, name, folder, missing)
    download = Space(Path(constants.HF_HUB_CACHE), to_fetch, "to fetch")
    refuse_too_large(str(name), download)
    headers = _headers(api, name, revision.resolved, sizes)
    here = [folder / shard for shard in shards if shard not in headers]
    with preview(str(name), (*small, *here), headers) as checkpoint:
        understood = understand(checkpoint, options)
        model, context = understood.model, understood.context
        rehearsal = rehearse(checkpoint, model, context, options.scheme, plan, options.scale_dtype)
        if options.device is not None and options.target is None:
            refuse_unfit(str(name), checkpoint, model, context, rehearsal.schemes, plan, options.device)
        size = estimate(rehearsal.groups, model.tie_word_embeddings, plan)
        if options.target is not None:
            planner = Planner(checkpoint, model, context, understood.talking, options, rehearsal)
            planner.refuse_impossible()
            size = replace(size, disk=planner.most_bytes)
    # what an interrupted export has left counts: --resume goes on with it, --force removes it
    left = sum(path.stat().st_size for path in partial_folder(target).glob("*"))
    refuse_too_large(str(name), download, Space(target.resolve().parent, max(size.disk - left, 0), "for the bundle"))
    if plan != "if" or not options.scheme.quantized:  # what else ONNX Runtime unpacks is not known before it loads
        for note in memory_note(size, detect().usable_memory_bytes):
            say(note)
    with explain_failures(str(name)):
        # One after the other: Ctrl-C stops at once and costs one shard; the library's threads would run to their end.
        for shard in missing:
            hf_hub_download(name.repo, shard, revision=revision.resolved)
    return folder, HubCommit(name.repo, revision.resolved)


def _list_names(api: HfApi, name: HubName, folder: Path) -> list[str]:
    """The names of what lies at the top of a commit; those in the cache where they tell all that is to be fetched."""
    names = list_names(folder)
    if {"config.json", INDEX_NAME} <= set(names) or {"config.json", SINGLE_NAME} <= set(names):
        return names
    if constants.HF_HUB_OFFLINE:
        return names if any(map(_SHARD.fullmatch, names)) else [*names, SINGLE_NAME]
    with explain_failures(str(name)):
        names = [entry.path for entry in api.list_repo_tree(name.repo, revision=folder.name)]
        if not any(map(_SHARD.fullmatch, names)):  # GGUFs often lie in folders of their own
            tree = api.list_repo_tree(name.repo, revision=folder.name, recursive=True)
            names += [entry.path.rpartition("/")[2] for entry in tree if entry.path.endswith(".gguf")]
        return names


def _shards(name: HubName, folder: Path, names: list[str]) -> list[str]:
    shards = sorted(set(read_index(folder).values())) or find_shards(name, names)
    for shard in shards:
        if not _SHARD.fullmatch(shard):
            raise MoedgeError(f"the index of {name} names {shard!r}, no safetensors file: do not use this checkpoint.")
    return shards


def _is_cached(name: HubName, commit: str) -> bool:
    """Whether the small files of the commit are here already, so that nothing need be asked."""
    try:
        snapshot_download(name.repo, revision=commit, allow_patterns=list(SMALL_FILES), local_files_only=True)
    except LocalEntryNotFoundError:
        return False
    return True


def _refuse_huge(api: HfApi, name: HubName, commit: str) -> None:
    """Raise MoedgeError if a file that should be small would fill a disk."""
    for entry in api.list_repo_tree(name.repo, revision=commit):
        if isinstance(entry, RepoFile) and entry.path in SMALL_FILES and entry.size > MOST_SMALL_BYTES:
            raise MoedgeError(f"{entry.path} of {name} has {entry.size} bytes: do not use this checkpoint.")


def _bytes_to_fetch(api: HfApi, name: HubName, folder: Path, missing: list[str]) -> tuple[dict[str, int], int]:
    """Bytes of each missing shard, and of those in all that no other commit has brought into the cache already.

    The cache of a repository has one folder a commit, `snapshots/<commit>`, of links to `blobs/<hash of a file>`.
    """
    if not missing:
        return {}, 0
    with explain_failures(str(name)):
        listed = {entry.path: entry for entry in api.list_repo_tree(name.repo, revision=folder.name)}
    sizes, total = {}, 0
    for shard in missing:
        file = listed.get(shard)
        if not isinstance(file, RepoFile):
            raise MoedgeError(
                f"{name} has no {shard}: moedge reads safetensors only, look for a repository that has the model so."
            )
        blob = folder.parents[1] / "blobs" / (file.lfs.sha256 if file.lfs else file.blob_id)
        sizes[shard] = file.size
        total += 0 if blob.is_file() else file.size
    return sizes, total


def _headers(api: HfApi, name: HubName, commit: str, sizes: dict[str, int]) -> dict[str, ShardHeader]:
    """The headers of shards of these sizes that are on the hub: the first bytes of each, asked for by range."""

    def header(shard: str) -> ShardHeader:
        broken = MoedgeError(f"{shard} of {name} has a broken header: do not use this checkpoint.")
        try:
            tensors = api.parse_safetensors_file_metadata(name.repo, shard, revision=commit).tensors
        except TypeError:  # the library computes with what it says before anybody has looked at it
            raise broken from None
        for tensor in tensors.values():
            bounds = tensor.data_offsets
            whole = _are_lengths(tensor.shape) and _are_lengths(bounds, sizes[shard]) and len(bounds) == 2
            if not whole or not isinstance(tensor.dtype, str):
                raise broken
        return {key: TensorHeader(t.dtype, tuple(t.shape), t.data_offsets) for key, t in tensors.items()}

    with explain_failures(str(name)), ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(sizes, pool.map(header, sizes), strict=True))


def _are_lengths(values: object, most: int = 2**53) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int and 0 <= value <= most for value in values)
