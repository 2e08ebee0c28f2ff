"""What an interrupted export must share with the one that goes on, and that a mark never runs ahead of the disk."""

import os
from dataclasses import fields, replace

import pytest

from moedge.export.writing.hasher import Hasher
from moedge.export.writing.journal import Planned, Recipe

RECIPE = Recipe("0.1.0", "2.4.6", "int4-block64", "float16", "nearest", "fused", 512, "c0", {"model.safetensors": "5a"})
OTHERS = {
    "moedge": "0.2.0", "numpy": "2.5.0", "scheme": "int8-block32", "scales": "float32", "rounding": "other",
    "experts": "if", "context": 77, "config": "c1",
    "shards": {"model.safetensors": "5b"}, "planned": Planned((("attention", 0, "int8-block32"),), 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_every_part_of_a_recipe_counts(name):
    told = RECIPE.difference(replace(RECIPE, **{name: OTHERS[name]}))
    if name in ("config", "shards"):
        assert told == "the checkpoint has changed since"
    elif name == "planned":
        assert told == "its target has led to another plan since"
    else:
        option = name if name in ("moedge", "numpy", "rounding", "scales") else f"--{name}"
        assert told == f"it was begun with {option} {getattr(RECIPE, name)}, and this is {OTHERS[name]}"


def test_the_same_recipe_has_no_difference():
    assert RECIPE.difference(replace(RECIPE, shards=dict(RECIPE.shards))) is None


class _Marks:
    """A journal that tells when it hears of a mark."""

    def __init__(self, told):
        self._told = told

    def add(self, mark):
        self._told.append(("mark", mark.stage, mark.end))


def test_a_stage_is_on_the_disk_before_its_mark(tmp_path, monkeypatch):
    told = []
    with (tmp_path / "weights.bin").open("w+b") as file:
        monkeypatch.setattr(os, "fsync", lambda descriptor: told.append(("sync", descriptor == file.fileno())))
        hasher = Hasher(file.fileno(), _Marks(told))
        hasher.start()
        for stage, end in (("embedding", 5), ("layer 0", 9)):
            file.write(b"x" * (end - file.tell()))
            file.flush()
            hasher.finish_stage(stage, end, [])
        hasher.end()
    assert told == [("sync", True), ("mark", "embedding", 5), ("sync", True), ("mark", "layer 0", 9)]
