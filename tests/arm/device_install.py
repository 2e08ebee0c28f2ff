"""moedge in the root as a device gets it: a wheel for aarch64, installed by pip with its base requirements only.

The wheel is built from a copy of the tree by the cross compiler; both are kept until a file of moedge changes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from debian_root import RootError

TREE = Path(__file__).parents[2]
FOLDERS = ("devices", "quant", "export", "runtime", "edge_server")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
CROSS = "aarch64-linux-gnu-g++"
SITE = "usr/local/lib/python3.11/dist-packages"  # where pip installs on Debian
# Systems that are no newer than the root's, by their C library; moedge's own wheel is tagged by the machine alone.
GLIBCS = (36, 35, 34, 31, 28, 27, 17)
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in GLIBCS), "manylinux2014_aarch64", "linux_aarch64")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def build_wheel(work: Path) -> bool:
    """Build the wheel with the kernels for aarch64, unless that of the same tree is there; whether that was needed."""
    wheels, tree = work / "wheels", work / "tree"
    stamp = wheels / "made-of"
    copy_tree(tree)
    digest = digest_of(tree)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return False
    shutil.rmtree(wheels, ignore_errors=True)
    words = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, tree]
    run(words, "moedge's wheel cannot be built", CXX=CROSS)
    if "linux_aarch64" not in find_wheel(wheels).name:
        why = f"`CXX={CROSS} python runtime/kernels/build.py build/arm/x.so` says why"
        raise RootError(f"{CROSS} cannot compile the kernels: {why}.")
    stamp.write_text(digest, encoding="utf-8")
    return True


def install_wheel(root: Path, work: Path) -> bool:
    """Install the wheel and what it requires, unless that one is there; whether that was needed."""
    stamp, digest = root / SITE / "made-of", (work / "wheels" / "made-of").read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return False
    shutil.rmtree(root / SITE, ignore_errors=True)
    platforms = [f"--platform={name}" for name in PLATFORMS]
    how = ["--target", root / SITE, "--only-binary=:all:", "--python-version=3.11", *platforms]
    run([*PIP, "install", *how, find_wheel(work / "wheels")], "pip cannot install moedge for aarch64")
    stamp.write_text(digest, encoding="utf-8")
    return True


def find_wheel(wheels: Path) -> Path:
    """The only one."""
    [wheel] = wheels.glob("moedge-*.whl")
    return wheel


def copy_tree(tree: Path) -> None:
    """All that a wheel is built from, and no leftovers of other builds."""
    shutil.rmtree(tree, ignore_errors=True)
    for folder in FOLDERS:
        shutil.copytree(TREE / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in FILES:
        shutil.copy(TREE / name, tree)


def digest_of(tree: Path) -> str:
    """Of all files and their names."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(tree)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def run(words: list[str | Path], complaint: str, **environ: str) -> None:
    """RootError with the last line of what it wrote, unless it succeeds."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | environ)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RootError(f"{complaint}: {''.join(said)}")
