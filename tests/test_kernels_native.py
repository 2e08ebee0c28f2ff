"""The kernels' own check (kernels/check.cpp): compiled for this machine, under sanitizers, and emulated as ARM CPUs."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import ROOT

from moedge.runtime.kernels.build import FLAGS, ISA_FLAGS, JOBS, MAY_BE_UNKNOWN, SOURCES, BuildError, find_compiler

PARTS = ("check", "check_attention", "check_mixers", "check_products", "check_recurrent")
CHECKS = tuple(ROOT / "tests" / "kernels" / f"{name}.cpp" for name in PARTS)
PLAIN = (
    *("attend", "attend_tiled", "attention", "causal_convolution", "choose", "convolution", "delta_net", "experts"),
    *("latent", "latent_absorbed", "latent_unabsorbed", "linear", "mamba2", "norm", "router", "self_check"),
    *("self_check_recurrent", "states"),
)
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
SANITIZED_S = 90  # after which no more cases are begun
# Later settings win. All instruction sets without optimization would take minutes.
SANITIZERS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# What the system must call a CPU's features.
FEATURES = {
    "avx2": {"avx2", "fma", "f16c"},
    "avxvnni": {"avx2", "fma", "f16c", "avx_vnni"},
    "avx512vnni": {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "neon": {"asimd"},
    "dotprod": {"asimddp"},
    "i8mm": {"asimddp", "i8mm"},
}
CPUS = {
    "cortex-a53": "scalar neon",
    "cortex-a72": "scalar neon",
    "cortex-a76": "scalar neon dotprod",
    "neoverse-n1": "scalar neon dotprod",
    "max": "scalar neon dotprod i8mm",
}


@dataclass(frozen=True)
class Check:
    """The program, its object files, and the instruction sets that it was compiled with."""

    program: Path
    objects: tuple[Path, ...]
    isas: tuple[str, ...]

    def run(self, seed, cases, before=()):
        """The instruction sets that it tried; what it prints is shown if it fails."""
        command = [*before, self.program, str(seed), str(cases)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert f"{cases} cases from {seed} on: the same bits" in done.stdout
        return done.stdout.splitlines()[0].removeprefix("tried: ")


def find_or_skip(cxx):
    """The compiler; the test is skipped if there is none here."""
    try:
        return find_compiler(os.environ | cxx)
    except BuildError as missing:
        return pytest.skip(f"{missing}")


def compile_check(folder, cxx, flags=(), link=()):
    """Compile check.cpp and what it checks into `folder`."""
    compiler = find_or_skip(cxx)
    flags_of = ISA_FLAGS[compiler.machine]
    left_out = [isa for isa in MAY_BE_UNKNOWN if isa in flags_of and not compiler.knows(flags_of[isa])]
    isas = tuple(isa for isa in flags_of if isa not in left_out)
    shared = (*FLAGS, *(f"-DMOEDGE_WITHOUT_{isa.upper()}" for isa in left_out), *flags)
    isa_sources = {SOURCES / f"isa_{isa}.cpp": flags_of[isa] for isa in isas}
    # Of inline functions, linkers keep the first copy: files for any CPU come first. The driver has the C++ runtime.
    plain = [SOURCES / f"{name}.cpp" for name in PLAIN]
    sources = dict.fromkeys(plain, ()) | isa_sources
    objects = {path: folder / f"{path.stem}.o" for path in (*sources, *CHECKS)}

    def compile_file(path):
        own = ("-std=c++17", "-O1", "-Wall", "-Wextra", f"-I{SOURCES}", *flags)
        words = own if path in CHECKS else (*shared, *sources[path])
        compiler.run(*words, "-c", path, "-o", objects[path])

    with ThreadPoolExecutor(min(JOBS, os.cpu_count() or 1)) as jobs:
        list(jobs.map(compile_file, reversed(objects)))
    program = folder / "check"
    compiler.run(*flags, *link, *objects.values(), "-pthread", "-o", program)
    return Check(program, tuple(objects[path] for path in isa_sources), isas), compiler


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return compile_check(tmp_path_factory.mktemp("native"), {})


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    if not shutil.which(CROSS) or not shutil.which(EMULATOR):
        pytest.skip(f"{CROSS} and {EMULATOR} are not both here; `make test-arm` says how to get them")
    return compile_check(tmp_path_factory.mktemp("arm"), {"CXX": CROSS}, link=("-static",))


def assert_nothing_is_shared(check, compiler):
    """A linker would keep one copy of such a function for all, perhaps one of instructions that a CPU has not got."""
    nm = subprocess.run([*compiler.command, "-print-prog-name=nm"], capture_output=True, text=True, check=True)
    for path in check.objects:
        listed = subprocess.run([nm.stdout.strip(), path], capture_output=True, text=True, check=True).stdout
        kinds = {line.split()[-2] for line in listed.splitlines()}
        assert "T" in kinds or "D" in kinds or "R" in kinds or "B" in kinds, listed
        assert not kinds & set("WwVvu"), f"{path.name}: {listed}"


def test_this_machine(native):
    words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    here = [isa for isa in native[0].isas if words >= FEATURES.get(isa, set())]
    assert native[0].run(seed=1, cases=100) == " ".join(here)


def test_instruction_sets_share_no_function(native):
    assert_nothing_is_shared(*native)


def test_sanitizers_find_nothing(tmp_path):
    check, _ = compile_check(tmp_path, {}, flags=SANITIZERS)
    begin = time.monotonic()
    for seed in range(1001, 1041, 2):
        check.run(seed, cases=2)
        if time.monotonic() - begin > SANITIZED_S:  # 40 cases take one minute on some machines, seven on others
            break


def test_pages_that_are_needed_are_read_before_they_are_asked_for(tmp_path):
    compiler, program, file = find_or_skip({}), tmp_path / "advice", tmp_path / "weights"
    sources = ROOT / "tests" / "kernels" / "advice.cpp", SOURCES / "usage.cpp"
    compiler.run("-std=c++17", f"-I{SOURCES}", *sources, "-pthread", "-o", program)
    file.write_bytes(os.urandom(64 << 20))
    done = subprocess.run([program, file], capture_output=True, text=True, check=False)
    if done.returncode == 2:
        pytest.skip(f"this system keeps a file in memory that nobody needs: {done.stdout}")
    assert done.returncode == 0, done.stdout


@pytest.mark.arm
@pytest.mark.parametrize("cpu", CPUS)
def test_arm_cpus(arm, cpu):
    seed = 2001 + 100 * list(CPUS).index(cpu)
    assert arm[0].run(seed, 25, before=(EMULATOR, "-cpu", cpu)) == CPUS[cpu]


@pytest.mark.arm
def test_arm_instruction_sets_share_no_function(arm):
    assert_nothing_is_shared(*arm)
