"""How the kernel library is compiled and packed, by a compiler that writes down what it is asked and by a real one."""

import ctypes
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from house import ROOT
from tiny_kernels import SOURCE, have_compiler, write_sources

from moedge.runtime.kernels import library
from moedge.runtime.kernels.build import (
    FLAGS,
    ISA_FLAGS,
    NAME,
    BuildError,
    build_library,
    compile_library,
    find_compiler,
    main,
)
from moedge.runtime.kernels.library import find_library, open_library

# Says what it was called with, refuses one flag, and makes what it is asked for.
RECORDER = """#!/bin/sh
case "$*" in -dumpmachine) echo {target}; exit;; esac
echo "$*" >> {log}
case "$*" in *{refused}*) echo "what is {refused}?" >&2; exit 1;; esac
while [ $# -gt 1 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done
exit 0
"""

FOLDER = "moedge/runtime/kernels"
PYTHON = ("__init__", "build", "library")


@pytest.fixture
def recorder(tmp_path):
    """Make the compiler; what it answers to `find_compiler`, and a function for the lines that it wrote."""

    def recorder(target, refused="--nothing"):
        log = tmp_path / "calls"
        path = tmp_path / "compiler"
        path.write_text(RECORDER.format(target=target, log=log, refused=refused), encoding="utf-8")
        path.chmod(0o755)
        return find_compiler({"CXX": str(path)}), lambda: log.read_text(encoding="utf-8").splitlines()

    return recorder


@pytest.fixture
def sources(tmp_path):
    folder = write_sources(tmp_path / "sources")
    for isa in {isa for each in ISA_FLAGS.values() for isa in each}:
        (folder / f"isa_{isa}.cpp").touch()
    return folder


@pytest.mark.parametrize(
    ("target", "machine"), [("x86_64-linux-gnu", "x86_64"), ("aarch64-unknown-linux-musl", "aarch64")]
)
def test_each_file_has_its_instruction_set_and_no_other(tmp_path, recorder, sources, target, machine):
    compiler, calls = recorder(target)
    assert compiler.machine == machine
    compile_library(tmp_path / NAME, compiler, sources=sources)
    compiled = {call.split(" -c ")[1].split()[0]: call.split(" -c ")[0].split() for call in calls() if " -c " in call}
    isas = ISA_FLAGS[machine]
    assert {Path(path).stem for path in compiled} == {"tiny", *(f"isa_{isa}" for isa in isas)}
    for path, flags in compiled.items():
        assert tuple(flags) == (*FLAGS, *isas.get(Path(path).stem.removeprefix("isa_"), ())), path
    assert (tmp_path / NAME).read_text() == "made\n"
    assert {path.name for path in tmp_path.iterdir()} == {"calls", "compiler", "sources", NAME}


@pytest.mark.parametrize(
    ("target", "refused", "define"),
    [("x86_64-linux-gnu", "-mavxvnni", "AVXVNNI"), ("aarch64-linux-gnu", "+i8mm", "I8MM")],
)
def test_an_older_compiler_leaves_one_out_and_says_so(tmp_path, recorder, sources, target, refused, define):
    compiler, calls = recorder(target, refused)
    compile_library(tmp_path / NAME, compiler, sources=sources)
    compiled = [call for call in calls() if " -c " in call]
    assert len(compiled) == len(ISA_FLAGS[compiler.machine])  # one less, and the file that is for all
    assert all(f"-DMOEDGE_WITHOUT_{define} " in call for call in compiled)


def test_flags_of_ones_own_come_last_and_keep_symbols(tmp_path, recorder, sources):
    compiler, calls = recorder("x86_64-linux-gnu")
    compile_library(tmp_path / NAME, compiler, ["-fsanitize=address", "-g"], sources)
    compiled = [call for call in calls() if " -c " in call]
    assert all("-fsanitize=address -g -c " in call for call in compiled)
    link = calls()[-1].split()
    assert "-fsanitize=address" in link
    assert not {"-s", "-static-libstdc++"} & set(link)


def test_the_runtime_is_linked_from_the_system_where_it_has_no_other(tmp_path, recorder, sources):
    compiler, _ = recorder("x86_64-linux-gnu", "-static-libstdc++")
    compile_library(tmp_path / NAME, compiler, sources=sources)
    assert (tmp_path / NAME).exists()


def test_a_failure_leaves_no_old_library(tmp_path, recorder, sources, capfd, monkeypatch):
    compiler, _ = recorder("x86_64-linux-gnu", "isa_avx2")
    monkeypatch.setenv("CXX", *compiler.command)
    (tmp_path / NAME).write_text("old")
    assert build_library(tmp_path / NAME, sources=sources) is None
    assert capfd.readouterr().err.startswith("what is isa_avx2?\nwarning: moedge's kernels are not built, as ")
    assert not list(tmp_path.glob(f"*{NAME}*"))


def test_an_old_library_is_there_until_the_new_one_is_finished(tmp_path, sources, monkeypatch):
    """The compiler writes down, at every call, what lies there."""
    path = tmp_path / "compiler"
    words = RECORDER.format(target="x86_64-linux-gnu", log=tmp_path / "calls", refused="--nothing")
    path.write_text(words.replace('echo "$*"', f"cat {tmp_path / NAME}"), encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    (tmp_path / NAME).write_text("old\n")
    assert build_library(tmp_path / NAME, sources=sources) == "x86_64"
    assert set((tmp_path / "calls").read_text().splitlines()) == {"old"}
    assert (tmp_path / NAME).read_text() == "made\n"


def test_words_of_cxx_that_make_no_command_are_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CXX", 'g++ "')
    assert build_library(tmp_path / NAME) is None
    told = capfd.readouterr().err
    assert told.startswith(
        "warning: moedge's kernels are not built, as CXX=g++ \" is no command (No closing quotation): "
    )


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, recorder, sources, capfd, monkeypatch):
    compiler, _ = recorder("x86_64-linux-gnu")
    monkeypatch.setenv("CXX", *compiler.command)
    (tmp_path / "file").touch()
    assert build_library(tmp_path / "file" / NAME, sources=sources) is None
    told = capfd.readouterr().err
    assert told.endswith("half as fast.\n")
    assert f"as {tmp_path / 'file'} cannot be written (File exists): " in told
    (tmp_path / NAME).mkdir()
    assert build_library(tmp_path / NAME, sources=sources) is None
    told = capfd.readouterr().err
    assert told.endswith(
        f"What lies at {tmp_path / NAME} belongs to other sources and cannot be removed (Is a directory): remove it.\n"
    )
    assert not list(tmp_path.glob(f".{NAME}*"))


def test_without_words_it_says_how_it_is_called(capfd):
    assert main([]) == 2
    assert capfd.readouterr().err == "usage: python runtime/kernels/build.py OUTPUT [flags]\n"


@pytest.mark.parametrize("target", ["armv7l-linux-gnueabihf", "x86_64-apple-darwin23", "i686-linux-gnu"])
def test_machines_without_kernels_are_named(recorder, target):
    with pytest.raises(BuildError, match=f"compiles for {target}, and there are no kernels for that"):
        recorder(target)


def test_no_compiler_is_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / NAME).write_text("old")
    assert main([str(tmp_path / NAME)]) == 1
    assert capfd.readouterr().err == (
        "warning: moedge's kernels are not built, as no C++ compiler is there: models run on those of onnxruntime, "
        "about half as fast.\n"
    )
    assert not (tmp_path / NAME).exists()
    monkeypatch.setenv("CXX", "no-compiler -m32")
    assert main([str(tmp_path / NAME)]) == 1
    assert "as no-compiler does not run (No such file or directory): " in capfd.readouterr().err


def test_what_files_share_is_compiled_for_every_cpu(tmp_path):
    """Named so that by name alone the most demanding copy came first."""
    compiler = have_compiler()
    isa, macro = {"x86_64": ("avx2", "__AVX2__"), "aarch64": ("dotprod", "__ARM_FEATURE_DOTPROD")}[compiler.machine]
    shared = f"""
        #ifdef {macro}
        #define DEMANDS 1
        #else
        #define DEMANDS 0
        #endif
        __attribute__((noinline)) inline int demands() {{ return DEMANDS; }}
    """
    exported = 'extern "C" __attribute__((visibility("default"))) int moedge_{}() {{ return demands(); }}'
    (tmp_path / f"isa_{isa}.cpp").write_text(shared + exported.format("most"), encoding="utf-8")
    (tmp_path / "zero.cpp").write_text(shared + exported.format("least"), encoding="utf-8")
    compile_library(tmp_path / NAME, compiler, sources=tmp_path)
    functions = ctypes.CDLL(str(tmp_path / NAME))
    assert (functions.moedge_least(), functions.moedge_most()) == (0, 0)


def test_build_and_library_mean_the_same_file():
    assert library.NAME == NAME


def test_this_tree_has_the_library_if_it_has_a_compiler():
    have_compiler()
    assert find_library() is not None, "run make, or python runtime/kernels/build.py, and see why it fails"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A moedge of few files, with kernels of a few lines."""
    tree = tmp_path_factory.mktemp("tree")
    python = [f"runtime/kernels/{name}.py" for name in PYTHON]
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *python):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    project = (tree / "pyproject.toml").read_text(encoding="utf-8")
    before, _, rest = project.partition("packages = [")
    project = before + 'packages = ["moedge.runtime.kernels"]' + rest.partition("]")[2]
    (tree / "pyproject.toml").write_text(project, encoding="utf-8")
    write_sources(tree / "runtime" / "kernels", '#include "tiny.h"\n' + SOURCE)
    (tree / "runtime" / "kernels" / "tiny.h").touch()
    return tree


def run_backend(tree: Path, made: Path, hook: str, **environ: str) -> tuple[Path, str]:
    """What pip would have been given by setuptools, and all that was said."""
    code = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
    words = [sys.executable, "-c", code, hook, str(made)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tree, env=os.environ | environ, check=True)
    return made / done.stdout.splitlines()[-1], done.stderr


def names_in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.startswith("moedge/")}


def test_a_wheel_is_for_one_machine_with_the_library_and_for_any_without(tree, tmp_path):
    machine = have_compiler().machine
    wheel, _ = run_backend(tree, tmp_path, "build_wheel")
    assert wheel.name == f"moedge-0.1.0-py3-none-linux_{machine}.whl"
    python = {f"{FOLDER}/{name}.py" for name in PYTHON}
    assert names_in_wheel(wheel) == python | {f"{FOLDER}/{NAME}"}
    with zipfile.ZipFile(wheel) as archive:
        assert "Root-Is-Purelib: false" in archive.read("moedge-0.1.0.dist-info/WHEEL").decode()
        archive.extractall(tmp_path / "installed")
    assert open_library(tmp_path / "installed" / FOLDER / NAME).isa == "scalar"
    # in the same tree, whose build folder still has the library
    wheel, said = run_backend(tree, tmp_path, "build_wheel", CXX="no-compiler")
    assert wheel.name == "moedge-0.1.0-py3-none-any.whl"
    assert names_in_wheel(wheel) == python
    assert "warning: moedge's kernels are not built, as no-compiler does not run" in said


def test_an_editable_install_has_the_library_in_the_tree(tree, tmp_path):
    have_compiler()
    path = tree / "runtime" / "kernels" / NAME
    run_backend(tree, tmp_path, "build_editable")
    assert open_library(path).isa == "scalar"
    run_backend(tree, tmp_path, "build_editable", CXX="no-compiler")
    assert not path.exists()


def test_an_sdist_has_the_sources(tree, tmp_path):
    archive, _ = run_backend(tree, tmp_path, "build_sdist", CXX="no-compiler")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"setup.py", "runtime/kernels/build.py", "runtime/kernels/tiny.cpp", "runtime/kernels/tiny.h"} <= names
    assert f"runtime/kernels/{NAME}" not in names
