"""What people point the exporter at that is no checkpoint which it reads: recognised by the names of the files there.

A folder and a repository on the hub are the same to it: a place and the names of its files.
"""

import re
from collections.abc import Collection
from pathlib import Path

from moedge.devices.errors import MoedgeError

# Endings of what a download has not finished: huggingface_hub's, browsers', aria2's, curl's and wget's habits.
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download", ".tmp")
SINGLE_NAME = "model.safetensors"
_OF = re.compile(r"(?P<stem>[A-Za-z0-9_][A-Za-z0-9_.-]*?)(?P<number>\d{1,6})-of-(?P<of>\d{1,6})\.safetensors")
_POINTER = b"version https://git-lfs.github.com/spec/"
_WAY_ON = "take the model's checkpoint in safetensors, with its config.json, from its publisher"
# The first pattern that a file's name matches whole tells what the place is, and what to do.
_FOREIGN = {
    r"adapter_config\.json|adapter_model\..*": (
        "is a LoRA adapter and no model", "merge it into its base model (PEFT's merge_and_unload) and export the result"
    ),
    r".*\.gguf": ("holds a GGUF, which moedge does not read", _WAY_ON),
    r"consolidated.*\.(safetensors|pth)|params\.json": (
        "holds weights in the layout of Mistral's or Meta's own code, which moedge does not read", _WAY_ON
    ),
    r"(pytorch_)?model.*\.(bin|pt|pth|ckpt)(\.index\.json)?": (
        "holds its weights as PyTorch's pickles, which may run code when opened and which moedge does not read",
        "take a revision in safetensors, or load it in transformers where you trust it and save_pretrained it anew",
    ),
    r".*\.distcp|global_step\d+|.*_(model|optim)_states\.pt": (
        "holds the state of a training run, in pieces",
        "put its weights together with the tool that wrote it, and save_pretrained the model",
    ),
    r"weights\.bin": ("is a bundle that was exported already", "serve it, or give the checkpoint"),
    r".*\.(npz|h5|msgpack|onnx|onnx_data|mlmodel|tflite|nemo|llamafile)|openvino_model\..*": (
        "holds its weights in another program's format, which moedge does not read", _WAY_ON
    ),
    r"snapshots": (
        "is the hub's cache of a repository", "give the folder of a commit in its snapshots/, or hf://org/name"
    ),
}  # fmt: skip


def list_names(folder: Path) -> list[str]:
    """The names in a folder, of files that huggingface_hub has begun to fetch for it, and of GGUFs one folder down."""
    begun = folder.glob(".cache/huggingface/download/**/*.incomplete")
    return sorted(path.name for path in (*folder.iterdir(), *begun, *folder.glob("*/*.gguf")))


def explain_missing(place: object, names: Collection[str], wanted: str) -> MoedgeError:
    """The error for a place of these files that lacks what is `wanted`: what is there instead, and the way on."""
    if unfinished := find_unfinished(names):
        return MoedgeError(
            f"{place} has no {wanted} and an unfinished download ({unfinished}): run the download again until it ends."
        )
    weights = SINGLE_NAME in names or _sets(names)
    for pattern, (what, way_on) in () if weights else _FOREIGN.items():
        found = sorted(name for name in names if re.fullmatch(pattern, name, re.IGNORECASE))
        if found:
            seen = "" if str(place).endswith(found[0]) else f" ({found[0]})"
            return MoedgeError(f"{place} {what}{seen}: {way_on}.")
    alone = [name for name in names if name.endswith(".safetensors")]
    if wanted == SINGLE_NAME and len(alone) == 1:
        return MoedgeError(f"{place} has no {wanted}, but {alone[0]}: rename that if it holds all of the model.")
    if wanted == SINGLE_NAME and alone:
        return MoedgeError(
            f"{place} has no {wanted}, but {len(alone)} others ({min(alone)} …) whose names do not tell whether they "
            f"are all: add the {wanted}.index.json that says so."
        )
    return MoedgeError(
        f"{place} has no {wanted}: give what has a config.json and the weights beside it in safetensors."
    )


def explain_file(path: Path) -> MoedgeError:
    """The error for a file where a checkpoint's folder is wanted."""
    if path.suffix.lower() in (".safetensors", ".json"):
        return MoedgeError(f"{path} is one file of a checkpoint: give its folder, {path.parent}.")
    return explain_missing(path, [path.name], "config.json")


def find_shards(place: object, names: Collection[str]) -> list[str]:
    """The safetensors files of a place that has no index: the only one, or a set that says of itself how many it is."""
    if SINGLE_NAME in names:
        return [SINGLE_NAME]
    sets = _sets(names)
    whole = [found for (_, of), found in sets.items() if _is_whole(found, int(of))]
    if len(whole) == 1:
        return sorted(whole[0].values())
    if whole:
        first = " and ".join(sorted(min(found.values()) for found in whole))
        raise MoedgeError(f"{place} holds the shards of {len(whole)} checkpoints ({first}): keep those of one.")
    for (stem, of), found in sorted(sets.items()):
        begun, lowest = find_unfinished(names), min(*found, 1)
        there = sum(lowest <= n < lowest + int(of) for n in found)
        if there == int(of):
            raise MoedgeError(f"{place} holds more than {there} shards {stem}*-of-{of}.safetensors: keep those of one.")
        raise MoedgeError(
            f"{place} holds {there} of the {int(of)} shards {stem}*-of-{of}.safetensors: "
            + (f"the download is not finished ({begun}), run it until it ends." if begun else "get the others too.")
        )
    raise explain_missing(place, names, SINGLE_NAME)


def _sets(names: Collection[str]) -> dict[tuple[str, str], dict[int, str]]:
    """Shards by their number, by what stands before it and how many there should be."""
    sets: dict[tuple[str, str], dict[int, str]] = {}
    for match in filter(None, map(_OF.fullmatch, names)):
        if not match["stem"].startswith(("consolidated", "adapter")):
            sets.setdefault((match["stem"], match["of"]), {})[int(match["number"])] = match[0]
    return sets


def _is_whole(found: Collection[int], count: int) -> bool:
    """Whether these numbers are all of so many, counted from one or, as some tools do, from zero."""
    return len(found) == count and max(found) - min(found) == count - 1 and min(found) <= 1


def find_unfinished(names: Collection[str]) -> str | None:
    """A file that a download has begun and not finished, if there is one."""
    return next((name for name in sorted(names) if name.lower().endswith(_UNFINISHED)), None)


def refuse_stand_in(path: Path) -> None:
    """Raise MoedgeError for a file that stands where another is meant: Git LFS's pointer, or a web page."""
    try:
        with path.open("rb") as file:
            start = file.read(256).lstrip()
    except OSError:
        return
    if start.startswith(_POINTER):
        raise MoedgeError(
            f"{path} is Git LFS's pointer to a file that was not fetched: run `git lfs pull` in {path.parent}, or "
            "give hf://org/name."
        )
    if start.lower().startswith((b"<!doctype html", b"<html")):
        raise MoedgeError(
            f"{path} is a web page that a server sent in the file's place: download it with a valid token."
        )
