"""Makes the arm64 root that the tests of this folder run programs in: `python tests/arm/make_root.py build/arm`.

A second call is done in a second. Exit code 1 and one sentence if it cannot be made, 3 if only Debian cannot be
fetched here.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from debian_root import RootError, make_debian
from device_install import build_wheel, install_wheel


def step(what: str, make: Callable[[], bool]) -> None:
    """Do one, and say how long it took."""
    began = time.monotonic()
    print(f"{what}: {f'made in {time.monotonic() - began:.0f} s' if make() else 'there'}", flush=True)


def main(words: list[str]) -> int:
    """Make the root in a folder."""
    work = Path(words[0]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    root = work / "root"
    try:
        with ThreadPoolExecutor() as pool:  # one waits for a mirror, the other compiles
            debian = pool.submit(step, "Debian for arm64", lambda: make_debian(root))
            wheel = pool.submit(step, "moedge's wheel for it", lambda: build_wheel(work))
        debian.result()
        wheel.result()
        step("moedge in it", lambda: install_wheel(root, work))
    except RootError as error:
        print(f"make_root: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
