"""Detection against made-up machines: a Raspberry Pi 5, a mixed chip, containers, malformed files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moedge.devices.cores import Cluster
from moedge.devices.detect import Machine, detect
from moedge.devices.kernel_files import cpu_list
from moedge.devices.memory import Memory, detect_memory
from moedge.devices.profile import load_profile
from moedge.devices.profile_file import profile_names
from moedge.runtime.cli import main

PI5_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"  # cortex-a76
)
X86_FLAGS = "fpu sse2 sse4_1 avx f16c fma avx2 avx512f avx512bw avx512vl avx512_vnni"
CPU = "sys/devices/system/cpu"


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def raspberry_pi_5() -> dict[str, object]:
    block = (
        "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: " + PI5_FEATURES + "\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n"
    )
    return {
        "proc/cpuinfo": "".join(block.format(cpu) for cpu in range(4)),
        "proc/meminfo": "MemTotal:        8245248 kB\nMemFree:         7000000 kB",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        **{f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq": 2400000 for cpu in range(4)},
        **{f"{CPU}/cpu{cpu}/topology/core_cpus_list": cpu for cpu in range(4)},
    }


def four_core_x86() -> dict[str, object]:
    """Two threads a core, siblings numbered 0 and 4, 1 and 5 and so on, as servers and laptops do it."""
    block = "processor : {}\nmodel name : Test CPU\nphysical id : 0\ncore id : {}\nflags : " + X86_FLAGS + "\n\n"
    return {
        "proc/cpuinfo": "".join(block.format(cpu, cpu % 4) for cpu in range(8)),
        "proc/meminfo": "MemTotal: 16777216 kB",
        **{f"{CPU}/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)},
    }


def x86(root: Path, affinity: frozenset[int] = frozenset(range(8))) -> Machine:
    return detect(root, "x86_64", affinity)


def test_raspberry_pi_5(tmp_path: Path) -> None:
    machine = detect(tree(tmp_path, raspberry_pi_5()), "aarch64", frozenset(range(4)))
    assert replace(machine, page_bytes=4096, system="Linux") == Machine(
        architecture="aarch64",
        cpu="Cortex-A76",
        board="Raspberry Pi 5 Model B Rev 1.0",
        isa=("asimd", "fphp", "asimdhp", "asimddp"),
        logical_cpus=4,
        cores=4,
        fast_cores=4,
        cpu_quota=None,
        memory_bytes=8245248 * 1024,
        memory_limit_bytes=None,
        clusters=(Cluster("Cortex-A76", 4, 2400),),
        fast_cpus=(0, 1, 2, 3),
        compatible="raspberrypi,5-model-b brcm,bcm2712",
    )
    profile = load_profile("auto", machine)
    assert (profile.name, profile.threads, profile.memory_bytes) == ("raspberry-pi-5-8gb", 4, 8245248 * 1024)


def test_slow_cores_of_a_mixed_chip_get_no_thread(tmp_path: Path) -> None:
    cpus = range(8)  # 4 x Cortex-A55, 4 x Cortex-A76, with the capacities that Linux gives an RK3588
    features = {0xD05: "asimd asimddp fphp", 0xD0B: "asimd asimddp fphp asimdhp"}
    parts = [0xD05] * 4 + [0xD0B] * 4
    blocks = (f"processor : {c}\nFeatures : {features[parts[c]]}\nCPU part : {parts[c]:#x}\n" for c in cpus)
    files = {f"{CPU}/cpu{cpu}/cpu_capacity": 405 if cpu < 4 else 1024 for cpu in cpus}
    root = tree(tmp_path, {"proc/cpuinfo": "\n".join(blocks), **files})
    machine = detect(root, "arm64", frozenset(cpus))
    assert (machine.architecture, machine.cpu) == ("aarch64", "Cortex-A55 + Cortex-A76")
    assert machine.isa == ("asimd", "fphp", "asimddp")  # a thread may run on either kind
    assert (machine.cores, machine.fast_cores) == (8, 4)
    assert (machine.clusters, machine.fast_cpus) == (
        (Cluster("Cortex-A76", 4, 0), Cluster("Cortex-A55", 4, 0)),
        (4, 5, 6, 7),
    )
    profile = load_profile("auto", machine)
    assert (profile.name, profile.threads, profile.affinity) == ("rk3588", 4, "fast")


@pytest.mark.parametrize(
    ("affinity", "cores"), [(range(8), 4), ((0, 4), 1), ((0, 1), 2), ((0, 4, 5), 2), ((), 1), ((77,), 1)]
)
@pytest.mark.parametrize("topology", [True, False])
def test_cores_are_physical_ones_that_the_process_may_use(tmp_path: Path, affinity, cores: int, topology: bool) -> None:
    files = {name: text for name, text in four_core_x86().items() if topology or "topology" not in name}
    machine = x86(tree(tmp_path, files), frozenset(affinity))
    assert machine.cores == machine.fast_cores == cores
    assert machine.isa[-1] == "avx512_vnni"


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ({"cpu.max": "150000 100000", "memory.max": 1 << 30}, 1.5, 1 << 30),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "50000 100000"}, 0.5, None),
        ({"memory.max": 2 << 30, "a/memory.max": 3 << 30, "a/b/memory.high": 5 << 29}, None, 2 << 30),
        ({"cpu.max": "200000"}, 2, None),
        ({"cpu.max": "-5 0", "memory.max": "-1"}, None, None),
        ({"cpu.max": "1 0", "memory.max": 0}, None, None),
    ],
)
def test_control_groups_version_2(tmp_path: Path, files, cpus: float | None, memory: int | None) -> None:
    groups = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    machine = x86(tree(tmp_path, four_core_x86() | groups | {"proc/self/cgroup": "0::/a/b"}))
    assert (machine.cpu_quota, machine.memory_limit_bytes) == (cpus, memory)
    assert machine.cores == (4 if cpus is None else max(1, int(cpus)))
    assert machine.usable_memory_bytes == (memory or 16 << 30)


@pytest.mark.parametrize("place", ["", "docker/0123", "elsewhere"])
def test_control_groups_version_1(tmp_path: Path, place: str) -> None:
    """Inside a container the group's path is often not there, and its own group is what is mounted at the top."""
    where = place.replace("elsewhere", "")
    lines = f"4:memory:/{place}\n3:cpu,cpuacct:/{place}\n1:name=systemd:/x\n0::/"
    groups = {
        f"sys/fs/cgroup/memory/{where}/memory.limit_in_bytes": 3 << 30,
        f"sys/fs/cgroup/cpu,cpuacct/{where}/cpu.cfs_quota_us": 250000,
        f"sys/fs/cgroup/cpu,cpuacct/{where}/cpu.cfs_period_us": 100000,
    }
    machine = x86(tree(tmp_path, four_core_x86() | groups | {"proc/self/cgroup": lines}))
    assert (machine.cpu_quota, machine.cores, machine.usable_memory_bytes) == (2.5, 2, 3 << 30)


def test_version_1_without_limits_is_no_limit(tmp_path: Path) -> None:
    groups = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
    }
    machine = x86(tree(tmp_path, four_core_x86() | groups | {"proc/self/cgroup": "4:memory:/\n1:cpu:/"}))
    assert (machine.cpu_quota, machine.memory_limit_bytes) == (None, None)


def test_a_group_outside_the_namespace_is_not_followed(tmp_path: Path) -> None:
    files = {
        "root/proc/self/cgroup": "0::/../../../trap",
        "trap/memory.max": 4096,
        "root/sys/fs/cgroup/cpu.max": "100000",
    }
    tree(tmp_path, files)
    machine = x86(tmp_path / "root")
    assert (machine.memory_limit_bytes, machine.cpu_quota) == (None, 1.0)


def test_nothing_to_read_still_describes_a_machine(tmp_path: Path) -> None:
    machine = detect(tmp_path, "riscv64", frozenset({0, 1}))
    assert (machine.cores, machine.isa, machine.cpu, machine.board) == (2, (), "", "")
    assert machine.memory_bytes > 0  # then the running system is asked


NASTY = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"\xff\xfe", b"0-99999999999999", b"9" * 5000, b"-1", b"1 0", b"0::/\0", b"::::", b"MemTotal: x kB"]
    ),
    st.builds(
        lambda lines: b"\n".join(lines),
        st.lists(st.sampled_from([b"processor : x", b"core id", b":", b"flags:", b"0::/a"])),
    ),
)
READ = (
    "sys/fs/cgroup/memory.stat",
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/self/cgroup",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory.max",
)


@settings(max_examples=150, deadline=None)
@given(contents=st.fixed_dictionaries(dict.fromkeys((*READ, f"{CPU}/cpu0/topology/core_cpus_list"), NASTY)))
def test_malformed_files_never_stop_detection(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("nasty")
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    assert detect_memory(root).usable_bytes > 0
    machine = x86(root, frozenset({0, 1}))
    assert 1 <= machine.fast_cores <= machine.cores <= 2
    assert machine.usable_memory_bytes > 0


def test_pipes_and_folders_where_files_should_be(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc/cpuinfo")
    (tmp_path / "proc/meminfo").mkdir()
    assert x86(tmp_path, frozenset({0})).cores == 1


MEMINFO = {"proc/meminfo": "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable:    5000 kB"}
V2 = {
    "proc/self/cgroup": "0::/box/inner",
    "sys/fs/cgroup/box/memory.max": 4_000_000,
    "sys/fs/cgroup/box/memory.current": 3_500_000,
    "sys/fs/cgroup/box/memory.stat": "anon 1000\ninactive_file 500000\nactive_file 7000",
    "sys/fs/cgroup/box/inner/memory.max": "max",
    "sys/fs/cgroup/box/inner/memory.current": 3_900_000,
}
V1 = {
    "proc/self/cgroup": "4:memory:/box\n0::/",
    "sys/fs/cgroup/memory/box/memory.limit_in_bytes": 2_000_000,
    "sys/fs/cgroup/memory/box/memory.usage_in_bytes": 1_900_000,
    "sys/fs/cgroup/memory/box/memory.stat": "inactive_file 1\ntotal_inactive_file 200000\ntotal_active_file 100000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
    "sys/fs/cgroup/memory/memory.usage_in_bytes": 1_999_999,
}


@pytest.mark.parametrize(
    ("files", "usable", "available"),
    [
        ({}, 8_192_000, 5_120_000),
        (V2, 4_000_000, 1_007_000),
        (V1, 2_000_000, 400_000),
        (V2 | {"sys/fs/cgroup/box/memory.current": 5_000_000}, 4_000_000, 0),
        ({"sys/fs/cgroup/memory.max": 3_000_000}, 3_000_000, 3_000_000),
    ],
    ids=["bare", "v2", "v1", "over", "nothing-used"],
)
def test_memory_that_is_there_and_that_is_free(tmp_path: Path, files, usable: int, available: int) -> None:
    assert detect_memory(tree(tmp_path, MEMINFO | files)) == Memory(usable, available)


def test_this_machine_has_memory() -> None:
    memory = detect_memory()
    assert 0 < memory.available_bytes <= memory.usable_bytes == detect().usable_memory_bytes


def test_cpu_lists() -> None:
    assert cpu_list("0-2,8") == (0, 1, 2, 8)
    assert cpu_list("3-1,,x,7-") == (7,)
    assert len(cpu_list("0-99999999")) < 5000


HERE = Machine("riscv64", "", "", ("asimd",), 4, 4, 2, 1.5, 8 << 30, 3 << 30)


def test_devices_lists_machine_and_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in profile_names())
    assert main(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == ["auto", *profile_names()]
    auto = found[0]
    assert auto["machine"]["cores"] == detect().cores
    assert [each["name"] for each in found[1:] if each["nearest"]] == [auto["nearest"]]


def test_devices_shows_one_with_all_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "rk3588"]) == 0
    text = capsys.readouterr().out
    assert "4 x Cortex-A76 at 2400 MHz + 4 x Cortex-A55 at 1800 MHz  [Rockchip" in text
    assert "decode_threads              4  [one a fast core]" in text
    assert main(["devices", "rk3588", "--json"]) == 0
    profile = json.loads(capsys.readouterr().out)
    assert (profile["name"], profile["clusters"][0]["count"], profile["decode_threads"]) == ("rk3588", 4, 4)
    assert main(["devices", "rk3589"]) == 1
    assert "did you mean rk3588?" in capsys.readouterr().err


def test_devices_shows_a_machine_without_a_profile(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("moedge.devices.commands.detect", lambda: HERE)
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert "no device profile for riscv64" in text
    assert "4 of 4 logical CPUs, 2 of them slow, limited to 1.5 CPUs of time" in text
    assert main(["devices", "--json"]) == 0
    auto = json.loads(capsys.readouterr().out)[0]
    assert (auto["name"], auto["nearest"]) == ("auto", None)
