"""Which of our files run while something is done, on every thread that begins meanwhile."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("devices", "quant", "export", "runtime", "edge_server")


def files_run(action: Callable[[], Any]) -> list[str]:
    """Files of the stages, as paths from the root, in the order of their first call."""
    seen: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen[frame.f_code.co_filename] = None

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    paths = (Path(name).resolve() for name in list(seen) if not name.startswith("<"))
    inside = [path.relative_to(ROOT).as_posix() for path in paths if path.is_relative_to(ROOT)]
    return [path for path in inside if path.partition("/")[0] in STAGES]
