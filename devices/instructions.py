"""Whether a CPU has the instructions that a description of it says: an unknown one ends a program without a word.

On ARM the kernel tells every program what the CPU has (getauxval); /proc/cpuinfo, which libraries read too, and a
profile may say more than that. x86's CPUs tell it themselves.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence

from moedge.devices.cores import PARTS
from moedge.devices.errors import MoedgeError

SYSTEM = "/proc/cpuinfo"
LONGEST_S = 60  # that work in a child may take
# Libraries take the others for CPUs with asimddp by name: systems older than the flag do not tell of it.
WITH_DOT = frozenset(PARTS.values()) - {"Cortex-A53", "Cortex-A55", "Cortex-A72", "Cortex-A73"}
AT_HWCAP, AT_HWCAP2 = 16, 26
# Linux, arch/arm64/include/uapi/asm/hwcap.h: name to word and bit.
_BITS = {
    "asimd": (AT_HWCAP, 1), "fphp": (AT_HWCAP, 9), "asimdhp": (AT_HWCAP, 10), "asimddp": (AT_HWCAP, 20),
    "sve": (AT_HWCAP, 22), "sve2": (AT_HWCAP2, 1), "svei8mm": (AT_HWCAP2, 9), "i8mm": (AT_HWCAP2, 13),
    "bf16": (AT_HWCAP2, 14), "sme": (AT_HWCAP2, 23),
}  # fmt: skip
Ask = Callable[[int], int]


def real_isa(architecture: str, ask: Ask | None = None) -> tuple[str, ...] | None:
    """The flags that the kernel says this CPU has, in its own spelling; None where it says nothing to programs."""
    if architecture != "aarch64" or not sys.platform.startswith("linux"):
        return None
    ask = ask or _auxiliary()
    return tuple(flag for flag, (word, bit) in _BITS.items() if ask(word) >> bit & 1)


def _auxiliary() -> Ask:
    function = ctypes.CDLL(None).getauxval
    function.argtypes, function.restype = [ctypes.c_ulong], ctypes.c_ulong
    return lambda word: int(function(word))


def refuse_missing(which: str, stated: Sequence[str], real: Sequence[str] | None) -> None:
    """MoedgeError if SYSTEM, or "device profile rk3588", states what is not real; of None nothing is known."""
    missing = [flag for flag in stated if flag not in real] if real is not None else []
    if missing:
        instead = "" if which == SYSTEM else "take `--device auto`, or "
        raise MoedgeError(
            f"{which} says that this CPU has {', '.join(missing)}, and it has not, so what is made for such a CPU "
            f"would crash here: {instead}correct the description."
        )


def refuse_misnamed(cores: Iterable[str], real: Sequence[str] | None) -> None:
    """MoedgeError if the system calls a core what has asimddp, and it has not."""
    named = [core for core in cores if core in WITH_DOT]
    if real is not None and named and "asimddp" not in real:
        raise MoedgeError(
            f"{SYSTEM} calls this CPU a {named[0]}, which has asimddp, and it has not: onnxruntime's kernels go by the "
            "name and would crash here. Export for moedge's own with `--experts native`, or correct the description."
        )


def survives(work: Callable[[], None]) -> str | None:
    """Do some work in a child process, of which nothing is left; None if it ends well, else what ended it.

    Where there are no child processes of this kind it is done here.
    """
    if not hasattr(os, "fork"):
        work()
        return None
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(LONGEST_S)  # a lock that another thread held at the fork stays locked in the child
            work()
            code = 0
        finally:
            os._exit(code)  # nothing of the parent's is flushed or closed twice
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return None if os.WEXITSTATUS(status) == 0 else "an error"
