"""One file a family, named after its `model_type`: data and names, no mathematics.

A family file holds `MODEL_TYPES` (with models that have each), `read(Config) -> ModelConfig`, and what else
`moedge families` says of it (`ATTENTION`, `LEFT_OUT`); the file is the registry.
"""

import difflib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import GroupedQuery, ModelConfig

MOST_LAYERS = 4096
# Mixture-of-Experts models that people try, and what of their layers moedge has no mathematics for.
REASONS = {
    "jamba": "Mamba layers of the first kind",
    **dict.fromkeys(("bailing_moe_linear", "minimax", "minimax_m1", "minimax_text_01"), "layers of linear attention"),
    "deepseek_v32": "sparse attention",
}


@dataclass(frozen=True)
class Family:
    """A supported `model_type`: models that have it, how their tokens attend, what of a checkpoint is left out."""

    model_type: str
    models: str
    attention: str
    left_out: str  # empty: nothing
    module: str


def known_families() -> tuple[Family, ...]:
    """Every supported `model_type`, by name."""
    found = []
    for entry in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{entry.name}")
        about = (module.ATTENTION, module.LEFT_OUT, module.__name__)
        found += [Family(model_type, models, *about) for model_type, models in module.MODEL_TYPES.items()]
    return tuple(sorted(found, key=lambda family: family.model_type))


def note_left_out(model_type: str) -> Iterator[str]:
    """What is to be said of a bundle of a model that also sees or hears."""
    family = next(family for family in known_families() if family.model_type == model_type)
    if "images" in family.left_out and not model_type.endswith("_text"):
        yield f"{family.left_out}: left out, the bundle is text only"


def read_model_config(config: Config) -> ModelConfig:
    """The model that a config.json describes; MoedgeError for an unknown family, with the nearest known names."""
    model_type = config.text("model_type")
    known = {family.model_type: family.module for family in known_families()}
    if model_type in REASONS:
        raise MoedgeError(
            f"{model_type} models have {REASONS[model_type]}, which moedge does not compute: take one of the types "
            "that `moedge families` lists."
        )
    if model_type not in known:
        near = difflib.get_close_matches(model_type, known, 3, 0.5)
        hint = f"the nearest it knows are {', '.join(near)}" if near else "`moedge families` lists those it knows"
        raise MoedgeError(f"moedge does not know the model type {model_type!r}: {hint}.")
    for place in (config, config.section("text_config")):  # before anything is made for each layer
        if place.has("num_hidden_layers"):
            place.integer("num_hidden_layers", most=MOST_LAYERS)
    model: ModelConfig = import_module(known[model_type]).read(config)
    if wrong := next(_contradictions(model), None):
        raise MoedgeError(f"the config of this {model_type} asks for {wrong}: correct it.")
    return model


def _contradictions(model: ModelConfig) -> Iterator[str]:
    """What no model of these numbers can do, though each of them may be right."""
    experts, router = model.experts, model.experts.router
    for mixer in dict.fromkeys(model.mixers):
        if isinstance(mixer, GroupedQuery) and mixer.num_heads % mixer.num_kv_heads:
            yield f"{mixer.num_heads} heads on {mixer.num_kv_heads} key and value heads"
    if experts.num_experts % router.n_group or router.topk_group > router.n_group:
        yield f"{router.topk_group} of {router.n_group} groups of {experts.num_experts} experts"
    elif experts.num_experts_per_tok > (reachable := experts.num_experts // router.n_group * router.topk_group):
        yield f"{experts.num_experts_per_tok} experts a token out of {reachable}"
    if model.norm_eps < 0 or router.norm_eps < 0 or router.norm_min < 0:
        yield "a norm with an epsilon below 0"
    if model.multipliers.logits_divisor == 0:
        yield "logits divided by 0"
    if experts.gate.limit is not None and experts.gate.limit <= 0:
        yield f"a gate that is held within {experts.gate.limit}"
