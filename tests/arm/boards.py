"""The ARM machines that moedge is run as: what qemu emulates, what firmware and kernel say, and what must follow."""

from dataclasses import dataclass

ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Board:
    """A machine with cores of one kind."""

    name: str
    cpu: str  # as qemu calls it
    part: str  # of the CPU in /proc/cpuinfo
    features: str  # likewise
    profile: str  # that `auto` must take
    isa: tuple[str, ...]  # that must be found
    kernels: str  # whose instructions moedge's kernels must take
    caches: tuple[str, ...]  # data and instructions, second level, third level
    mhz: int
    memory_kib: int
    implementer: str = "0x41"
    model: str = ""  # of the device tree
    compatible: tuple[str, ...] = ()


PI5 = Board(
    name="Raspberry Pi 5",
    cpu="cortex-a76",
    part="0xd0b",
    features=A76,
    profile="raspberry-pi-5-8gb",
    isa=("asimd", "fphp", "asimdhp", "asimddp"),
    kernels="dotprod",
    caches=("64K", "512K", "2048K"),
    mhz=2400,
    memory_kib=8_245_248,
    model="Raspberry Pi 5 Model B Rev 1.0",
    compatible=("raspberrypi,5-model-b", "brcm,bcm2712"),
)
PI4 = Board(
    name="Raspberry Pi 4",
    cpu="cortex-a72",
    part="0xd08",
    features="fp asimd evtstrm crc32 cpuid",  # its maker left the cryptographic ones away
    profile="raspberry-pi-4-4gb",
    isa=("asimd",),
    kernels="neon",
    caches=("32K", "1024K"),
    mhz=1800,
    memory_kib=3_884_360,
    model="Raspberry Pi 4 Model B Rev 1.4",
    compatible=("raspberrypi,4-model-b", "brcm,bcm2711"),
)
A53 = Board(
    name="Cortex-A53",
    cpu="cortex-a53",
    part="0xd03",
    features=ARMV8,
    profile="generic-aarch64",
    isa=("asimd",),
    kernels="neon",
    caches=("32K", "512K"),
    mhz=1400,
    memory_kib=2_000_000,
)
MAX = Board(
    name="max",  # all that qemu knows, of no maker
    cpu="max",
    part="0x051",
    features=f"{A76} sve sve2 svei8mm i8mm bf16",
    profile="generic-aarch64",
    isa=("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm"),
    kernels="i8mm",
    caches=("64K", "1024K"),
    mhz=2000,
    memory_kib=16_000_000,
    implementer="0x00",
)
BOARDS = (PI5, PI4, A53, MAX)
CORES = 4  # each
