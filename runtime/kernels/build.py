"""Compiles the kernel library: which sources, which flags, which machine.

setup.py loads this file when moedge is built and the Makefile runs it, so it needs nothing beside Python; nothing that
serves a model imports it. `library.py` opens what it makes.

    CXX=aarch64-linux-gnu-g++ python runtime/kernels/build.py OUTPUT [flags]
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCES = Path(__file__).parent
NAME = "libmoedge_kernels.so"
COMPILERS = ("c++", "g++", "clang++")
JOBS = 2  # a file can take half a gigabyte, and devices have little
# Contraction and errno would make results depend on the compiler; every instruction set gives the same bits.
FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off"),
    *("-fno-math-errno", "-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra"),
    "-Wno-uninitialized",  # which GCC 12 says of its own headers of vectors
)
# libstdc++ is there wherever onnxruntime is, which needs it too.
LINK = ("-shared", "-static-libgcc", "-Wl,--gc-sections", "-Wl,--no-undefined", "-s")
EXPORTS = (
    "{ global: moedge_*; RegisterCustomOps; local: *; };"  # nothing of the C++ runtime meets that of another library
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mprefer-vector-width=512")
# What `isa_NAME.cpp` is compiled with, from the least to the most; it is left out on other machines.
ISA_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"scalar": (), "avx2": _AVX2, "avxvnni": (*_AVX2, "-mavxvnni"), "avx512vnni": (*_AVX2, *_AVX512)},
    "aarch64": {
        "scalar": (),
        "neon": (),
        "dotprod": ("-march=armv8.2-a+dotprod",),
        "i8mm": ("-march=armv8.2-a+dotprod+i8mm",),
    },
}
# GCC 9 and 10, which long-lived systems have, know all others; -DMOEDGE_WITHOUT_NAME tells the rest of the sources.
MAY_BE_UNKNOWN = ("avxvnni", "i8mm")


class BuildError(Exception):
    """Why there is no library, in one line without a full stop; `log` is what the compiler wrote, often empty."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that runs here, and the machine that it compiles for: a key of ISA_FLAGS."""

    command: tuple[str, ...]
    machine: str

    def run(self, *words: str | Path) -> None:
        """BuildError with what it wrote, unless it succeeds."""
        try:
            done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        except OSError as error:
            raise BuildError(f"{self.command[0]} does not run ({error.strerror})") from error
        if done.returncode:
            raise BuildError(f"{shlex.join(self.command)} fails", done.stderr)

    def knows(self, flags: Sequence[str]) -> bool:
        """Whether it takes all of the flags."""
        try:
            self.run(*flags, "-fsyntax-only", "-x", "c++", os.devnull)
        except BuildError:
            return False
        return True


def find_compiler(environ: Mapping[str, str]) -> Compiler:
    """The one that CXX names, else the first on the PATH; BuildError if there is none, or for CPUs without kernels."""
    found = [name for name in COMPILERS if shutil.which(name, path=environ.get("PATH"))]
    try:
        command = tuple(shlex.split(environ.get("CXX", ""))) or tuple(found[:1])
    except ValueError as error:
        raise BuildError(f"CXX={environ['CXX']} is no command ({error})") from error
    if not command:
        raise BuildError("no C++ compiler is there")
    try:
        done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=True)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{shlex.join(command)} fails", error.stderr) from error
    target = done.stdout.strip()
    machine = target.partition("-")[0]
    if machine not in ISA_FLAGS or "-linux" not in target:
        raise BuildError(f"{shlex.join(command)} compiles for {target}, and there are no kernels for that")
    return Compiler(command, machine)


def compile_library(output: Path, compiler: Compiler, flags: Sequence[str] = (), sources: Path = SOURCES) -> None:
    """Compile every source of a folder into `output`, which is replaced at the end; BuildError if that fails.

    `flags` come after ours, and keep symbols in the library, as sanitizers need.
    """
    isa_flags = ISA_FLAGS[compiler.machine]
    left_out = [isa for isa in MAY_BE_UNKNOWN if isa in isa_flags and not compiler.knows(isa_flags[isa])]
    shared = (*FLAGS, *(f"-DMOEDGE_WITHOUT_{isa.upper()}" for isa in left_out))
    # Of an inline function that several files have, linkers keep the first copy: it must be one that every CPU runs.
    files: dict[Path, tuple[str, ...]] = dict.fromkeys(
        sorted(path for path in sources.glob("*.cpp") if not path.stem.startswith("isa_")), ()
    )
    for isa in (isa for isa in isa_flags if isa not in left_out):
        files |= dict.fromkeys(sources.glob(f"isa_{isa}.cpp"), isa_flags[isa])
    if not files:
        raise BuildError(f"{sources} has no sources")
    try:
        _compile_files(output, compiler, {path: (*shared, *own, *flags) for path, own in files.items()}, flags)
    except OSError as error:
        raise BuildError(f"{error.filename} cannot be written ({error.strerror})") from error


def _compile_files(
    output: Path, compiler: Compiler, files: Mapping[Path, Sequence[str]], link_flags: Sequence[str]
) -> None:
    """Each file with its flags, all linked into `output`; OSError if something cannot be written."""
    with TemporaryDirectory() as made:
        objects = {path: Path(made, f"{path.stem}.o") for path in files}

        def compile_file(path: Path) -> None:
            compiler.run(*files[path], "-c", path, "-o", objects[path])

        with ThreadPoolExecutor(min(JOBS, os.cpu_count() or 1)) as jobs:
            list(jobs.map(compile_file, files))
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = output.with_name(f".{output.name}.{os.getpid()}")
        try:
            exports = Path(made, "exports.map")
            exports.write_text(EXPORTS, encoding="utf-8")
            link = ("-shared", *link_flags) if link_flags else LINK
            compiler.run(*link, *objects.values(), f"-Wl,--version-script={exports}", "-o", unfinished)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)


def build_library(output: Path, flags: Sequence[str] = (), sources: Path = SOURCES) -> str | None:
    """Compile with this environment's compiler into `output`: the machine that the library is for.

    An old library stays there until the new one is finished. None if that fails, after a line on stderr that says why
    and what it costs; no library is left there then.
    """
    try:
        compiler = find_compiler(os.environ)
        compile_library(output, compiler, flags, sources)
    except BuildError as failed:
        stays = _remove(output)
        print(
            f"{failed.log}warning: moedge's kernels are not built, as {failed}: models run on those of onnxruntime, "
            f"about half as fast.{stays}",
            file=sys.stderr,
        )
        return None
    return compiler.machine


def _remove(old: Path) -> str:
    """An old library beside new sources would be worse than none; a sentence if it cannot go."""
    try:
        old.unlink(missing_ok=True)
    except NotADirectoryError:  # nothing can be there
        return ""
    except OSError as error:
        return f" What lies at {old} belongs to other sources and cannot be removed ({error.strerror}): remove it."
    return ""


def main(words: Sequence[str]) -> int:
    """Compile into the path that is the first word, with the flags that follow; 1 after a warning if that fails.

    2 after a line that says how to call it, if there are no words.
    """
    if not words:
        print("usage: python runtime/kernels/build.py OUTPUT [flags]", file=sys.stderr)
        return 2
    output, *flags = words
    return 0 if build_library(Path(output), flags) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
