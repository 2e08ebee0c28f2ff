"""An arm64 Debian of files only, for `qemu-aarch64-static -L`: Python and what its libraries need. Nothing in it is run
to make it, so this machine's kernel needs to know nothing of ARM. What is installed in it is device_install.py's.
"""

import os
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("python3.11", "libgomp1")
STAMP = "made-of"


class RootError(Exception):
    """Why there is no root, in one sentence."""

    exit_code = 1


class NotFetchedError(RootError):
    """That this machine cannot fetch what it needs, which says nothing about moedge."""

    exit_code = 3


def make_debian(root: Path) -> bool:
    """Fetch and unpack the root, unless one of the same packages is there; whether that was needed."""
    made_of = f"{SUITE} {' '.join(PACKAGES)}\n"
    stamp = root / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of:
        return False
    shutil.rmtree(root, ignore_errors=True)
    owner = [] if os.geteuid() == 0 else ["fakeroot"]  # debootstrap gives all files to root
    how = ["--arch=arm64", "--foreign", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    words = [*owner, "debootstrap", *how, SUITE, root, find_mirror()]
    environ = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}  # where others than root do not look
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotFetchedError(f"debootstrap cannot fetch {SUITE} for arm64: {''.join(said) or 'it does not say why'}.")
    packages = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    for package in packages:  # what debootstrap would do by running the root's own programs
        subprocess.run(["dpkg", "-x", package, root], check=True)
        package.unlink()
    stamp.write_text(made_of, encoding="utf-8")
    return True


def find_mirror() -> str:
    """Where this machine's apt has Debian from."""
    words = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    try:
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotFetchedError(f"apt does not tell where Debian is fetched from ({error}).") from error
    found = [line.partition("|")[2] for line in listed.splitlines() if line.startswith("Debian Debian|")]
    if not found:
        raise NotFetchedError("apt has no mirror of Debian here: run apt-get update once.")
    return found[0]
