"""Device profiles: every value has a source, what is left out is detected, and what does not fit is refused."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from moedge.devices.cores import Cluster
from moedge.devices.detect import Machine
from moedge.devices.errors import MoedgeError
from moedge.devices.nearest import nearest
from moedge.devices.profile import CORE_BYTES_PER_S, RESERVED_BYTES, Profile, load_profile
from moedge.devices.profile_file import FOLDER, KEYS, HardwareSpec, RatesSpec, profile_names, read_spec
from moedge.export.schemes import parse_plan

GENERIC = ("generic-aarch64", "generic-x86-64")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    """The folder of the user's own profiles, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "moedge" / "profiles"
    folder.mkdir(parents=True)
    return folder


def machine_of(architecture: str, **facts) -> Machine:
    two = (Cluster("fast", 2, 2000), Cluster("slow", 2, 900))
    known = Machine(architecture, "", "", ("asimd",), 4, 4, 2, None, 8 << 30, 3 << 30, two, (2, 3))
    return replace(known, **facts)


def test_this_machine_has_a_profile() -> None:
    profile = load_profile("auto")
    assert profile.threads >= 1
    told = {*KEYS, *(each.name for each in fields(RatesSpec))}
    assert set(profile.sources) == told
    assert told < {each.name for each in fields(Profile)} | {each.name for each in fields(profile.rates)}


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_we_bring_loads(name: str) -> None:
    spec = read_spec(name)[1]
    profile = load_profile(name, machine_of(spec.architecture))
    assert profile.name == name
    assert all(source.strip() for source in profile.sources.values())
    assert profile.prefill_threads <= profile.cores
    assert 0 < profile.memory_budget_bytes <= profile.memory_bytes
    assert parse_plan(profile.scheme).name == profile.scheme
    assert all(getattr(spec.rates, each.name) is None for each in fields(RatesSpec)), "nobody has measured it there"
    assert all(getattr(profile.rates, each.name) > 0 for each in fields(RatesSpec))


def test_only_generic_profiles_leave_hardware_out() -> None:
    for name in profile_names():
        spec = read_spec(name)[1]
        left_out = {each.name for each in fields(HardwareSpec) if getattr(spec.hardware, each.name) is None}
        assert bool(left_out) == (name in GENERIC)
        assert bool(spec.detected) == (name in GENERIC)
    assert len(profile_names()) >= 15


PI5 = {"isa": ("asimd", "fphp", "asimdhp", "asimddp"), "cpu": "Cortex-A76", "memory_limit_bytes": None}
VNNI = ("sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni")


@pytest.mark.parametrize(
    ("architecture", "facts", "name"),
    [
        ("aarch64", {"board": "Raspberry Pi 5 Model B Rev 1.0", "memory_bytes": 4_150_000_000}, "raspberry-pi-5-4gb"),
        ("aarch64", {"board": "Raspberry Pi 5 Model B Rev 1.1", "memory_bytes": 16_900_000_000}, "raspberry-pi-5-16gb"),
        ("aarch64", {"board": "Raspberry Pi Compute Module 5", "memory_bytes": 2 << 30}, "raspberry-pi-5-4gb"),
        ("aarch64", {"board": "Raspberry Pi 4 Model B Rev 1.4", "memory_bytes": 8_200_000_000}, "raspberry-pi-4-8gb"),
        # firmware is hidden in most containers
        ("aarch64", PI5 | {"memory_bytes": 8_200_000_000}, "raspberry-pi-5-8gb"),
        ("aarch64", {"cpu": "Cortex-A72", "memory_bytes": 4_000_000_000}, "raspberry-pi-4-4gb"),
        ("aarch64", {"cpu": "Cortex-A55 + Cortex-A76"}, "rk3588"),
        # another board with the same core
        ("aarch64", PI5 | {"board": "Some board", "compatible": "somebody,board"}, "generic-aarch64"),
        ("aarch64", {"board": "Radxa ROCK 5B", "compatible": "radxa,rock-5b rockchip,rk3588"}, "rk3588"),
        ("aarch64", {"board": "Orange Pi 5", "compatible": "x,y rockchip,rk3588s"}, "rk3588"),
        ("aarch64", {"board": "NVIDIA Jetson Orin Nano Developer Kit"}, "jetson-orin-nano"),
        ("aarch64", {"cpu": "Neoverse-V1"}, "graviton"),
        ("aarch64", {"cpu": "Apple"}, "apple-m"),
        ("aarch64", {"cpu": "Oryon"}, "snapdragon-8-elite"),
        ("aarch64", {"cpu": "Cortex-A53"}, "generic-aarch64"),
        ("x86_64", {"cpu": "Intel(R) N100", "isa": ("fma", "avx2", "avx_vnni")}, "intel-n100"),
        ("x86_64", {"cpu": "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "isa": ("fma", "avx2")}, "x86-64-avx2"),
        ("x86_64", {"cpu": "AMD Ryzen 7 7700", "isa": VNNI}, "x86-64-avx512-vnni"),
        ("x86_64", {"cpu": "Celeron", "isa": ("sse4_1",)}, "generic-x86-64"),
        ("riscv64", {}, None),
    ],
)
def test_the_nearest_profile(architecture: str, facts, name: str | None) -> None:
    specs = {each: read_spec(each)[1] for each in profile_names()}
    assert nearest(machine_of(architecture, **facts), specs) == name


def test_auto_is_held_to_what_the_machine_has() -> None:
    one = (Cluster("Cortex-A76", 2, 2000),)
    board = "Raspberry Pi 5 Model B Rev 1.0"
    seen = machine_of("aarch64", **PI5 | {"board": board, "cores": 2, "fast_cores": 2, "clusters": one})
    profile = load_profile("auto", replace(seen, memory_bytes=8_300_000_000, isa=("asimd",)))
    assert profile.name == "raspberry-pi-5-8gb"
    assert (profile.clusters, profile.isa, profile.memory_bytes) == (one, ("asimd",), 8_300_000_000)
    assert (profile.prefill_threads, profile.decode_threads) == (2, 2)
    assert profile.memory_budget_bytes == 7_700_000_000  # as stated: firmware keeps the same
    small = load_profile("auto", replace(seen, memory_bytes=1 << 30))
    assert (small.name, small.memory_budget_bytes) == ("raspberry-pi-5-4gb", (1 << 30) - RESERVED_BYTES)
    limited = load_profile("auto", replace(seen, memory_limit_bytes=1 << 30))
    assert limited.memory_bytes == limited.memory_budget_bytes == 1 << 30
    assert "container" in limited.sources["memory_budget_bytes"]
    # of a server's memory two cores have their part
    server = machine_of("x86_64", isa=VNNI, cores=2, fast_cores=2)
    assert load_profile("auto", server).memory_bytes_per_s == 2 * CORE_BYTES_PER_S


def test_facts_left_out_come_from_the_machine() -> None:
    profile = load_profile("generic-aarch64", machine_of("aarch64"))
    assert (profile.cores, profile.threads, profile.memory_bytes, profile.isa) == (4, 2, 3 << 30, ("asimd",))
    assert (profile.sources["clusters"], profile.affinity) == ("detected", "fast")


BOARD = """
description = "a test board"
architecture = "aarch64"
extends = "generic-aarch64"

[hardware]
clusters = { value = [{ core = "Cortex-A55", count = 6, mhz = 1500 }], source = "data sheet" }
isa = { value = ["asimd", "asimddp"], source = "data sheet" }
memory_bytes = { value = 4294967296, source = "data sheet" }
memory_bytes_per_s = { value = 8e9, source = "data sheet" }
storage_bytes_per_s = { value = 1e8, source = "data sheet" }

[settings]
prefill_chunk = { value = 32, source = "measured" }
awake_us = { value = 70, source = "measured" }
cache_type = { value = "int8", source = "measured" }
"""


def test_a_complete_profile_of_another_architecture_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(BOARD)
    profile = load_profile(str(tmp_path / "board.toml"), machine_of("x86_64"))
    assert (profile.name, profile.cores, profile.decode_threads, profile.awake_us) == ("board", 6, 6, 70)
    assert profile.isa == ("asimd", "asimddp")
    assert (profile.cache_type, profile.sources["cache_type"]) == ("int8", "measured")
    assert profile.prefill_chunk_ms == 250  # of what it extends


def test_a_measured_rate_takes_the_place_of_an_estimate(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(BOARD + "[rates]\nlayer_s = { value = 5e-5, source = 'measured' }\n")
    profile = load_profile(str(tmp_path / "board.toml"), machine_of("x86_64"))
    assert (profile.rates.layer_s, profile.sources["layer_s"]) == (5e-5, "measured")
    assert "estimated" in profile.sources["step_s"]


def test_own_profiles_have_names_extend_others_and_come_first(own: Path) -> None:
    (own / "mine.toml").write_text(BOARD)
    (own / "rk3588.toml").write_text(
        'extends = "rk3588"\ndescription = "mine, 32 GB"\n[hardware]\n'
        'memory_bytes = { value = 32_000_000_000, source = "label" }\n'
    )
    assert {"mine", "rk3588"} <= set(profile_names())
    assert load_profile("mine", machine_of("x86_64")).cores == 6
    profile = load_profile("auto", machine_of("aarch64", cpu="Cortex-A55 + Cortex-A76", memory_limit_bytes=None))
    assert profile.description == "mine, 32 GB"
    (own / "again.toml").write_text('extends = "mine"\ndescription = "again"\narchitecture = "aarch64"')
    assert load_profile("again", machine_of("x86_64")).description == "again"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOARD + "colour = { value = 1, source = 'x' }", "colour"),
        (BOARD + "[other]\n", "other"),
        (BOARD.replace("value = 32", "value = 32, unit = 'tokens'"), "unit"),
        (BOARD.replace("prefill_chunk", "prefil_chunk"), "prefil_chunk"),
        (BOARD.replace("value = 32", "value = 2.5"), "2.5 is not of type int"),
        (BOARD.replace("value = 32", "value = true"), "True is not of type int"),
        (BOARD.replace("value = 32", "value = '6'"), "'6' is not of type int"),
        (BOARD.replace('"int8"', '"int4"'), "int4"),
        (BOARD.replace("value = 70", "value = 10001"), "awake_us is 10001: it must be from 0 to 10000"),
        (BOARD.replace("value = 70", "value = -1"), "awake_us is -1: it must be"),
        (BOARD.replace('["asimd", "asimddp"]', '"asimd"'), "'asimd' is not a list"),
        (BOARD.replace("value = 32", "value = 0"), "prefill_chunk is 0: it must be 1 or more"),
        (BOARD.replace("value = 8e9", "value = -8e9"), "memory_bytes_per_s is -8000000000.0: it must be above 0"),
        (BOARD.replace("value = 8e9", "value = nan"), "memory_bytes_per_s is nan: it must be above 0"),
        (BOARD.replace("count = 6", "count = 0"), "clusters has 0 cores"),
        (BOARD.replace('[{ core = "Cortex-A55", count = 6, mhz = 1500 }]', "[]"), "clusters is (): it must be one"),
        (BOARD.replace('value = 32, source = "measured"', 'value = 32, source = " "'), "prefill_chunk has no source"),
        (BOARD.replace('value = 32, source = "measured"', "value = 32"), "source"),
        (BOARD.replace('extends = "generic-aarch64"\n', ""), "prefill_threads is missing: state it, or name it"),
        (BOARD.replace("extends", "detected = ['isa']\nextends"), "isa is stated and named in `detected`"),
        (BOARD.replace("extends", "detected = ['colour']\nextends"), "`detected` names colour, which is no key"),
        (BOARD.replace("extends", "detected = ['scheme']\nextends"), "`detected` names scheme, which no machine tells"),
        (BOARD.replace("extends", "detected = 3\nextends"), "detected"),
        (BOARD.partition("[hardware]")[0] + "hardware = 3", "hardware"),
        (BOARD.partition("[hardware]")[0] + "settings = []", "settings"),
        (BOARD.partition("[hardware]")[0] + "match = 'x'", "match"),
        (BOARD + "memory_budget_bytes = { value = 5000000000, source = 'x' }", "memory_budget_bytes is 5000000000: it"),
        (BOARD + "decode_threads = { value = 7, source = 'x' }", "decode_threads is 7: it must be 6 at most"),
        (BOARD + "accuracy_level = { value = 9, source = 'x' }", "accuracy_level is 9: it must be from 0 to 4"),
        (BOARD.replace('"generic-aarch64"', '"generic-arm"'), "did you mean generic-aarch64?"),
        (BOARD.replace('"generic-aarch64"', '"board.toml"'), "leads back to it"),
        (BOARD.replace('"generic-aarch64"', "1"), "extends is 1: name one profile"),
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
    assert str(path) in str(caught.value) or "did you mean" in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generic-x86_64", "did you mean generic-x86-64?"),
        ("raspberry-pi-5", "did you mean raspberry-pi-5-"),
        ("nonsense", "choose one of auto, apple-m"),
        ("../profiles/generic-aarch64", "There is no device profile"),
        ("nowhere.toml", "cannot be read: No such file"),
        ("", "There is no device profile ''"),
        ("generic-aarch64", "is for aarch64 and leaves out clusters, isa, memory_bytes"),
    ],
)
def test_names_that_lead_nowhere(name: str, words: str) -> None:
    with pytest.raises(MoedgeError) as caught:
        load_profile(name, machine_of("x86_64"))
    assert words in str(caught.value)


def test_auto_on_an_unknown_architecture_says_what_to_do() -> None:
    with pytest.raises(MoedgeError, match=r"no device profile for riscv64.*--device"):
        load_profile("auto", machine_of("riscv64"))


def test_a_path_may_lead_into_the_folder_of_those_we_bring() -> None:
    assert load_profile(str(FOLDER / "rk3588.toml"), machine_of("x86_64")).name == "rk3588"
