"""One file a family, named after its `model_type`: data and names, no mathematics.

A family file holds `MODEL_TYPES` and `read(Config) -> ModelConfig`; the file is the registry.
"""

import difflib
import pkgutil
from collections.abc import Iterator
from importlib import import_module

from moedge.devices.errors import MoedgeError
from moedge.export.config import Config
from moedge.export.model_config import GroupedQuery, ModelConfig


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
    if wrong := next(_contradictions(model), None):
        raise MoedgeError(f"the config of this {model_type} asks for {wrong}: correct it.")
    return model


def _contradictions(model: ModelConfig) -> Iterator[str]:
    """What no model of these numbers can do, though each of them may be right."""
    experts, router, attention = model.experts, model.experts.router, model.attention
    if isinstance(attention, GroupedQuery) and attention.num_heads % attention.num_kv_heads:
        yield f"{attention.num_heads} heads on {attention.num_kv_heads} key and value heads"
    if experts.num_experts % router.n_group or router.topk_group > router.n_group:
        yield f"{router.topk_group} of {router.n_group} groups of {experts.num_experts} experts"
    elif experts.num_experts_per_tok > (reachable := experts.num_experts // router.n_group * router.topk_group):
        yield f"{experts.num_experts_per_tok} experts a token out of {reachable}"
