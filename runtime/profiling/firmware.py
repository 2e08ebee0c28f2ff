"""Commands of the firmware that a measurement asks, so far the Raspberry Pi's `vcgencmd`."""

import shutil
import subprocess
from collections.abc import Callable

AskFirmware = Callable[[str], str]  # words after `vcgencmd` to what it says; "" where there is no such command
SECONDS = 2.0


def ask_firmware(words: str) -> str:
    """What `vcgencmd` answers; empty where it is not installed, is not allowed to, or fails."""
    program = shutil.which("vcgencmd")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *words.split()], capture_output=True, text=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout
