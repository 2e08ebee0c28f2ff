"""Writes what a board's firmware and kernel say of it into a root: /proc and /sys as Linux shows them.

qemu's user mode looks into its root first, so programs see this board where they would see this machine otherwise; the
CPU detection of onnxruntime crashes on an x86 machine's /sys.
"""

from pathlib import Path

from boards import CORES, Board

# Of Debian's folders, what programs are made of. Where the repository lies no folder of that name may be: qemu would
# look for the bundle in it.
SHARED = ("bin", "sbin", "lib", "usr", "etc")
OWN = ("root",)


def describe(board: Board, debian: Path, root: Path) -> None:
    """Make `root`: the Debian root's programs, and the board's /proc and /sys."""
    for name in SHARED:
        (root / name).symlink_to(debian / name)
    for name in OWN:
        (root / name).mkdir()
    for name, text in (processors(board) | limits(board) | firmware(board)).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def processors(board: Board) -> dict[str, str]:
    """/proc/cpuinfo, topology, clocks and caches."""
    block = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {board.features}\nCPU implementer\t: {board.implementer}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {board.part}\nCPU revision\t: 1\n\n"
    )
    files = {"proc/cpuinfo": "".join(f"processor\t: {cpu}\n{block}" for cpu in range(CORES))}
    every, top = f"0-{CORES - 1}", "sys/devices/system/cpu"
    files |= {f"{top}/{name}": f"{every}\n" for name in ("possible", "present", "online")}
    files[f"{top}/kernel_max"] = "255\n"
    midr = int(board.implementer, 16) << 24 | 0xF << 16 | int(board.part, 16) << 4 | 1
    for cpu in range(CORES):
        said = {"topology/core_id": cpu, "topology/physical_package_id": 0, "topology/cluster_id": 0}
        said |= {f"topology/{kind}_list": cpu for kind in ("core_cpus", "thread_siblings")}
        said |= {f"topology/{kind}_list": every for kind in ("core_siblings", "cluster_cpus", "package_cpus")}
        said |= {"cpufreq/cpuinfo_max_freq": board.mhz * 1000, "cpufreq/cpuinfo_min_freq": 600_000}
        said["regs/identification/midr_el1"] = f"0x{midr:016x}"
        for index, cache in enumerate(caches(board, cpu, every)):
            said |= {f"cache/index{index}/{name}": value for name, value in cache.items()}
        files |= {f"{top}/cpu{cpu}/{name}": f"{value}\n" for name, value in said.items()}
    return files


def caches(board: Board, cpu: int, every: str) -> list[dict[str, object]]:
    """Those of one core: the first two levels are its own."""
    first, second, *third = board.caches
    levels = [(1, "Data", first, cpu), (1, "Instruction", first, cpu), (2, "Unified", second, cpu)]
    levels += [(3, "Unified", size, every) for size in third]
    return [
        {"level": level, "type": kind, "size": size, "shared_cpu_list": shared, "coherency_line_size": 64, "id": cpu}
        for level, kind, size, shared in levels
    ]


def limits(board: Board) -> dict[str, str]:
    """Its memory, and a control group without limits: this machine's may be a container with some."""
    free = board.memory_kib * 9 // 10
    return {
        "proc/meminfo": f"MemTotal: {board.memory_kib} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/memory.max": "max\n",
    }


def firmware(board: Board) -> dict[str, str]:
    """The device tree's names, where there is one."""
    if not board.model:
        return {"proc/device-tree/model": "\0"}
    named = {"model": (board.model,), "compatible": board.compatible}
    return {f"proc/device-tree/{name}": "".join(f"{word}\0" for word in words) for name, words in named.items()}
