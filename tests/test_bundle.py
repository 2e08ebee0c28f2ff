"""Bundles on disk: every way in which one can differ from its manifest is found."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.devices.profile_file import FOLDER, read_spec
from moedge.runtime import manifest as contract
from moedge.runtime.bundle_report import PREFILL_CHUNK, describe, description_lines
from moedge.runtime.cli import main
from moedge.runtime.integrity import check_bundle, open_bundle
from moedge.runtime.manifest import FileEntry, Manifest, TensorGroup, read_manifest, write_manifest

CONTENT = {"model.onnx": b"onnx" * 40, "weights.bin": bytes(range(256)) * 3, "tokenizer.json": b"{}"}


def entries(content: dict[str, bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}


def tiny_manifest() -> Manifest:
    return Manifest(
        schema_version=contract.SCHEMA_VERSION,
        name="tiny",
        scheme="int4-block64",
        experts=contract.ExpertKernel("fused", 4, 64, False),
        model=contract.ModelFacts("qwen3_moe", 64, 200, 2, 2, 2, 8, 2, 70_000, 30_000, 256, (1, 2), None, "plain"),
        cache=tuple(
            contract.CacheTensor(f"past_key_values.0.{kind}", f"present.0.{kind}", "shared", (2, 16))
            for kind in ("key", "value")
        ),
        tensors=(
            TensorGroup("routed experts", "int4-block64", 4, 64, 4096, 2304),
            TensorGroup("norms", "fp32", 32, 0, 64, 256),
        ),
        files=entries(CONTENT),
        tools={"moedge": "0.1.0"},
    )


def write_bundle(folder: Path) -> Path:
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    write_manifest(tiny_manifest(), folder)
    return folder


def problems_of(folder: Path) -> list[str]:
    return check_bundle(folder, lambda done, total: None)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("flips") / "tiny")


def test_intact_bundle_opens_and_progress_ends_at_the_total(bundle: Path) -> None:
    calls: list[tuple[int, int]] = []
    assert open_bundle(bundle) == tiny_manifest() == read_manifest(bundle)
    assert check_bundle(bundle, lambda done, total: calls.append((done, total))) == []
    assert calls[-1] == (sum(map(len, CONTENT.values())),) * 2


def test_bundle_folder_may_be_reached_through_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(bundle)
    assert problems_of(tmp_path / "latest") == []


@settings(max_examples=400, deadline=None)
@given(
    where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from([*CONTENT, "manifest.json"])
)
def test_every_flipped_bit_is_found(flipped: Path, where: float, bit: int, name: str) -> None:
    path = flipped / name
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[int(where * len(whole))] ^= 1 << bit
    path.write_bytes(broken)
    try:
        assert len(problems_of(flipped)) == 1
        with pytest.raises(MoedgeError):
            open_bundle(flipped)
    finally:
        path.write_bytes(whole)
    assert problems_of(flipped) == []


def test_all_problems_are_listed_and_the_first_one_is_raised(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"short")
    (bundle / "tokenizer.json").unlink()
    (bundle / "weights.bin").write_bytes(CONTENT["weights.bin"][::-1])
    (bundle / "extra.txt").touch()
    (bundle / "sub").mkdir()
    assert problems_of(bundle) == [
        "'model.onnx' has 5 bytes, the manifest says 160",
        "'tokenizer.json' is missing",
        "'extra.txt' is not in the manifest",
        "'sub' is not in the manifest",
        "'weights.bin' is not as it was written (its sha256 does not match)",
    ]
    with pytest.raises(MoedgeError, match=r"'model\.onnx' has 5 bytes"):
        open_bundle(bundle)


def test_without_hashes_only_what_is_quick_to_see_is_found(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(CONTENT["weights.bin"][::-1])
    open_bundle(bundle, check_hashes=False)
    (bundle / "weights.bin").write_bytes(b"")
    with pytest.raises(MoedgeError, match="has 0 bytes"):
        open_bundle(bundle, check_hashes=False)


def become_link(path: Path, outside: Path) -> None:
    path.rename(outside)
    path.symlink_to(outside)


def become_inner_link(path: Path, outside: Path) -> None:
    become_link(path, path.parent / "copy")


def become_hard_link(path: Path, outside: Path) -> None:
    os.link(path, outside)


def become_folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def become_pipe(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["weights.bin", "manifest.json"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (become_link, "is a symbolic link"),
        (become_inner_link, "is a symbolic link"),
        (become_hard_link, "is a hard link (2 names)"),
        (become_folder, "is a folder"),
        (become_pipe, "is not a plain file"),
    ],
)
def test_a_file_must_be_plain_and_have_one_name(bundle: Path, tmp_path: Path, change, words: str, name: str) -> None:
    change(bundle / name, tmp_path / "outside")
    assert any(words in problem for problem in problems_of(bundle))
    with pytest.raises(MoedgeError, match=r"is a|is not a plain file"):
        open_bundle(bundle)


@pytest.mark.parametrize("change", [become_link, become_inner_link, become_hard_link])
def test_a_file_that_becomes_a_link_while_others_are_hashed(bundle: Path, tmp_path: Path, change) -> None:
    """The very same bytes behind another name, after the quick checks and before the file is opened."""
    assert next(iter(tiny_manifest().files)) == "model.onnx"
    outside = tmp_path / "outside"

    def progress(done: int, total: int) -> None:
        if not outside.exists() and not (bundle / "copy").exists():
            change(bundle / "weights.bin", outside)

    (problem,) = check_bundle(bundle, progress)
    assert problem.startswith("'weights.bin' cannot be read (")


def test_a_manifest_of_more_than_64_mebibytes_is_not_read(bundle: Path) -> None:
    os.truncate(bundle / "manifest.json", (64 << 20) + 1)
    (problem,) = problems_of(bundle)
    assert "manifest.json is larger than 67108864 bytes" in problem
    os.truncate(bundle / "manifest.json", 64 << 20)
    assert "is larger" not in problems_of(bundle)[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside", "leads out of the bundle"),
        ("a/../../outside", "leads out of the bundle"),
        ("..\\outside", "leads out of the bundle"),
        ("..", "leads out of the bundle"),
        (".", "leads out of the bundle"),
        ("", "leads out of the bundle"),
        ("/etc/hostname", "is an absolute path"),
        ("C:\\outside", "is an absolute path"),
        ("C:outside", "is an absolute path"),
        ("sub/weights.bin", "lies in a sub-folder"),
        ("./weights.bin", "lies in a sub-folder"),
        ("weights.bin/", "lies in a sub-folder"),
        ("nul\0", "cannot be shown"),
        ("manifest.json", "cannot vouch for itself"),
    ],
)
def test_names_in_the_manifest_stay_inside(bundle: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    (bundle / "sub").mkdir()
    (bundle / "sub/weights.bin").write_bytes(b"x")
    write_manifest(replace(tiny_manifest(), files=entries(CONTENT | {name: b"x"})), bundle)
    assert any(words in problem for problem in problems_of(bundle))
    with pytest.raises(MoedgeError, match=words):
        open_bundle(bundle, check_hashes=False)


def test_a_bundle_has_a_graph(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    write_manifest(replace(tiny_manifest(), files=entries({"weights.bin": CONTENT["weights.bin"]})), bundle)
    assert "the manifest lists no model.onnx" in problems_of(bundle)


def edited(**changes: object) -> bytes:
    return json.dumps(json.loads(contract.render(tiny_manifest())) | changes).encode()


def without(size: str) -> bytes:
    """A manifest that vouches for itself and tells of nothing."""
    manifest = tiny_manifest()
    return contract.render(replace(manifest, model=replace(manifest.model, **{size: 0})))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "schema version None"),
        (b'{"schema_version": 99}', "schema version 99"),
        (edited(schema_version=3), "schema version 3, this moedge reads 4: export it again"),
        (edited(surprise=1), "surprise"),
        (edited(files={"model.onnx": {"size": "160", "sha256": ""}}), "'160' is not of type int"),
        (edited(name="another"), "not as it was written"),
        (without("hidden_size"), "a model without a size"),
        (without("context_length"), "a model without a size or a context"),
        (edited(name="\ud800"), "not as it was written"),
        (edited(sha256="0" * 64), "not as it was written"),
        (contract.render(tiny_manifest()) + b"\n", "not as it was written"),
    ],
)
def test_a_manifest_that_does_not_hold_is_told_in_one_sentence(bundle: Path, content: bytes, words: str) -> None:
    (bundle / "manifest.json").write_bytes(content)
    (problem,) = problems_of(bundle)
    assert words in problem
    with pytest.raises(MoedgeError, match=words):
        open_bundle(bundle)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        for check in (open_bundle, problems_of):
            with pytest.raises(MoedgeError, match="make one with `moedge export`"):
                check(folder)


def test_verify_prints_all_problems_and_exits_with_1(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "is intact" in capsys.readouterr().out
    (bundle / "tokenizer.json").unlink()
    (bundle / "extra.txt").touch()
    assert main(["verify", str(bundle)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["verify", str(bundle), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["intact"]
    assert len(told["problems"]) == 2


def test_inspect_tells_bits_and_bytes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines() == description_lines(tiny_manifest())
    assert "8 a layer, 2 for a token" in text
    assert main(["inspect", str(bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads(json.dumps(describe(tiny_manifest())))
    assert facts["disk_bytes"] == sum(map(len, CONTENT.values()))
    assert facts["tensors"][0]["bits_per_weight"] == 4.5
    assert facts["estimated_memory_bytes"] == 4096 * 5 // 8 + 256


def test_inspect_counts_with_the_longest_chunk_of_the_profiles_we_bring_and_names_it(bundle: Path) -> None:
    chunks = [read_spec(str(path))[1].settings.prefill_chunk for path in FOLDER.glob("*.toml")]
    assert max(chunk.value for chunk in chunks if chunk) == PREFILL_CHUNK
    [line] = [line for line in description_lines(read_manifest(bundle)) if "to answer" in line]
    assert line.endswith(f"with one full context, prompts in chunks of {PREFILL_CHUNK}")
