"""Device profiles: every value has a source, what is left out is detected, and what does not fit is refused."""

from pathlib import Path

import pytest

from moedge.devices.detect import Machine
from moedge.devices.errors import MoedgeError
from moedge.devices.profile import GENERIC, load_profile, profile_names, read_spec


def test_this_machine_has_a_profile() -> None:
    profile = load_profile("auto")
    assert profile.intra_op_threads >= 1
    assert set(profile.sources) == {
        *("isa", "cores", "memory_bytes", "intra_op_threads", "prefill_chunk", "awake_us", "cache_type"),
    }


def machine_of(architecture: str) -> Machine:
    return Machine(architecture, "", "", ("asimd",), 4, 4, 2, None, 8 << 30, 3 << 30)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_we_bring_loads(name: str) -> None:
    profile = load_profile(name, machine_of(read_spec(name)[1].architecture))
    assert profile.name == name
    assert all(source.strip() for source in profile.sources.values())


def test_there_is_a_generic_profile_for_each_architecture() -> None:
    assert set(GENERIC.values()) <= set(profile_names())
    for architecture, name in GENERIC.items():
        assert read_spec(name)[1].architecture == architecture


def test_facts_left_out_come_from_the_machine() -> None:
    machine = machine_of("aarch64")
    profile = load_profile("generic-aarch64", machine)
    assert (profile.cores, profile.intra_op_threads, profile.memory_bytes, profile.isa) == (4, 2, 3 << 30, ("asimd",))
    assert profile.sources["cores"] == "detected"


FULL = """
description = "a test board"
architecture = "aarch64"
isa = { value = ["asimd", "asimddp"], source = "data sheet" }
cores = { value = 6, source = "data sheet" }
memory_bytes = { value = 4294967296, source = "data sheet" }
prefill_chunk = { value = 32, source = "measured" }
awake_us = { value = 70, source = "measured" }
cache_type = { value = "int8", source = "measured" }
"""


def test_a_complete_profile_of_another_architecture_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(FULL)
    profile = load_profile(str(tmp_path / "board.toml"), machine_of("x86_64"))
    assert (profile.name, profile.cores, profile.intra_op_threads, profile.awake_us) == ("board", 6, 6, 70)
    assert profile.isa == ("asimd", "asimddp")
    assert (profile.cache_type, profile.sources["cache_type"]) == ("int8", "measured")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FULL + "colour = 'red'", "colour"),
        (FULL.replace("value = 6", "value = 6, unit = 'cores'"), "unit"),
        (FULL.replace("prefill_chunk", "prefil_chunk"), "prefil_chunk"),
        (FULL.replace("value = 6", "value = 2.5"), "2.5 is not of type int"),
        (FULL.replace("value = 6", "value = true"), "True is not of type int"),
        (FULL.replace("value = 6", "value = '6'"), "'6' is not of type int"),
        (FULL.replace('"int8"', '"int4"'), "int4"),
        (FULL.replace("value = 70", "value = 10001"), "awake_us is 10001: it must be from 0 to 10000"),
        (FULL.replace("value = 70", "value = -1"), "awake_us is -1: it must be"),
        (FULL.replace('["asimd", "asimddp"]', '"asimd"'), "'asimd' is not a list"),
        (FULL.replace("value = 6", "value = 0"), "cores is 0: it must be 1 or more"),
        (FULL.replace('value = 6, source = "data sheet"', 'value = 6, source = " "'), "cores has no source"),
        (FULL.replace('value = 6, source = "data sheet"', "value = 6"), "source"),
        ("cores = [", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("\udcff", "is not TOML"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MoedgeError) as caught:
        load_profile(str(path), machine_of("aarch64"))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generic-x86_64", "did you mean generic-x86-64?"),
        ("nonsense", "choose one of auto, generic-aarch64"),
        ("../profiles/generic-aarch64", "There is no device profile"),
        ("nowhere.toml", "cannot be read: No such file"),
        ("", "There is no device profile ''"),
        ("generic-aarch64", "is for aarch64 and leaves out isa, cores, memory_bytes"),
    ],
)
def test_names_that_lead_nowhere(name: str, words: str) -> None:
    with pytest.raises(MoedgeError) as caught:
        load_profile(name, machine_of("x86_64"))
    assert words in str(caught.value)


def test_auto_on_an_unknown_architecture_says_what_to_do() -> None:
    with pytest.raises(MoedgeError, match=r"no device profile for riscv64.*--profile"):
        load_profile("auto", machine_of("riscv64"))
