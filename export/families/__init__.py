"""One file a family, named after its `model_type`: data and names, no mathematics.

A family file holds `MODEL_TYPES` and `read(Config) -> ModelConfig`; the file is the registry.
"""

import difflib
import pkgutil
from importlib import import_module

from moedge.devices.errors import MoedgeError
from moedge.export.config import Config
from moedge.export.model_config import ModelConfig


def known_model_types() -> dict[str, str]:
    """Every supported `model_type`, with the module that reads it."""
    modules = [f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__)]
    return {t: module for module in modules for t in import_module(module).MODEL_TYPES}


def read_model_config(config: Config) -> ModelConfig:
    """The model that a config.json describes; MoedgeError for an unknown family, with the nearest known names."""
    model_type = config.text("model_type")
    known = known_model_types()
    if model_type not in known:
        near = difflib.get_close_matches(model_type, known, 3, 0.5) or sorted(known)
        raise MoedgeError(
            f"moedge does not know the model type {model_type!r}: the nearest it knows are {', '.join(near)}."
        )
    model: ModelConfig = import_module(known[model_type]).read(config)
    return model
