"""Compiles the kernel library when moedge is built, where a C++ compiler is. All else stands in pyproject.toml.

How the library is compiled is runtime/kernels/build.py; here is where it goes, and what the wheel is called by it.
"""

import importlib.util
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

FOLDER, PACKAGE = Path("runtime/kernels"), Path("moedge/runtime/kernels")  # in the tree and in a wheel
SPEC = importlib.util.spec_from_file_location("moedge_build", FOLDER / "build.py")
kernels = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = kernels  # dataclasses look their module up
SPEC.loader.exec_module(kernels)


class BuildKernels(Command):
    """A step of `build`: the library among the built files, or in the tree if the install is editable.

    `machine` is what it was compiled for, None before and where it could not be compiled.
    """

    user_options = []  # noqa: RUF012

    def initialize_options(self) -> None:
        """setuptools asks for it."""
        self.editable_mode = False
        self.build_lib = None
        self.machine = None

    def finalize_options(self) -> None:
        """setuptools asks for it."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        """A machine without a compiler gets moedge all the same, and a line that pip shows if it is told -v."""
        output = FOLDER / kernels.NAME if self.editable_mode else Path(self.build_lib, PACKAGE, kernels.NAME)
        self.machine = kernels.build_library(output, sources=FOLDER)

    def get_source_files(self) -> list[str]:
        """What an sdist holds for this step."""
        return sorted(str(path) for kind in ("*.cpp", "*.h", "*.inc") for path in FOLDER.glob(kind))

    def get_outputs(self) -> list[str]:
        """What this step made."""
        return [str(Path(self.build_lib, PACKAGE, kernels.NAME))] if self.machine else []

    def get_output_mapping(self) -> dict[str, str]:
        """From what a wheel would hold to what the tree holds, for an editable install."""
        return {output: str(FOLDER / kernels.NAME) for output in self.get_outputs()} if self.editable_mode else {}


class Build(build):
    """All steps of a build."""

    sub_commands = [*build.sub_commands, ("build_kernels", None)]  # noqa: RUF012


class Wheel(bdist_wheel):
    """A wheel for one machine if the library is in it, else for any: no part of moedge depends on the Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Interpreter, ABI, platform."""
        machine = self.get_finalized_command("build_kernels").machine
        return ("py3", "none", f"linux_{machine}") if machine else super().get_tag()

    def write_wheelfile(self, wheelfile_base: str) -> None:
        """Said only here: if it were said earlier, setuptools would install all into a folder beside the root."""
        self.root_is_pure = self.get_finalized_command("build_kernels").machine is None
        super().write_wheelfile(wheelfile_base)


setup(cmdclass={"build": Build, "build_kernels": BuildKernels, "bdist_wheel": Wheel})
