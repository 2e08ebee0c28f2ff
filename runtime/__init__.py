"""Bundle to tokens: `Engine` is the loaded model, `Session` one timeline of it.

Names are loaded on first use, so that reading a manifest never imports onnxruntime.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moedge.runtime.engine import Engine
    from moedge.runtime.sampling import SamplingParams
    from moedge.runtime.session import Session

# Since 1.29 onnxruntime's wheels write an identifier to the home folder and send events to their maker; it looks once,
# when it is imported. A user who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Engine", "SamplingParams", "Session"]

_HOME = {"Engine": "engine", "SamplingParams": "sampling", "Session": "session"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"moedge.runtime.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
