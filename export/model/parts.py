"""What many families read alike from their config.json: rotary embedding, attention, which layers are what.

Defaults of absent keys are those of transformers' configuration classes; a family passes its own where they differ.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, GroupedQuery, Mixer, ModelConfig, MultiHeadLatent
from moedge.export.model.rope import Linear, Llama3, LongRope, Proportional, Rope, Yarn

MOST_HEAD_DIM = 8192  # rotary tables are made before any weight's shape is compared
# What rotary parameters may hold, by type. "finetuned" is a remark of the first YaRN models; "mrope_section" says which
# of an image's three positions turns which frequency, and in text the three are one.
_ANY_ROPE = (
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "finetuned",
    "mrope_section",
    "mrope_interleaved",
)
_ORIGINAL = ("original_max_position_embeddings",)
_YARN = (
    "attention_factor", "attn_factor", "extrapolation_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
    "truncate",
)  # fmt: skip
_LONG = ("attention_factor", "short_factor", "long_factor", "short_mscale", "long_mscale")
_LLAMA3 = ("low_freq_factor", "high_freq_factor")
ROPE_KEYS = {
    "default": (*_ANY_ROPE, *_ORIGINAL, *_YARN, *_LONG, *_LLAMA3),
    "yarn": (*_ANY_ROPE, *_ORIGINAL, *_YARN, "short_mscale", "long_mscale"),
    "longrope": (*_ANY_ROPE, *_ORIGINAL, *_LONG),
    "llama3": (*_ANY_ROPE, *_ORIGINAL, *_LLAMA3),
    "linear": _ANY_ROPE,
    "proportional": _ANY_ROPE,
    "dynamic": (*_ANY_ROPE, *_ORIGINAL),
}


def read_rope(
    config: Config, head_dim: int, interleaved: bool = False, theta: float = 10000.0, partial: float | None = None
) -> Rope:
    """Rotary embedding from `rope_parameters`, or from the older `rope_theta` and `rope_scaling`, which wins.

    `partial` is the share of dimensions that the family rotates unless the config states another; None is a family that
    rotates all of them, and for which another share is refused.
    """
    newer = config.section("rope_parameters")
    parameters = config.section("rope_scaling") if config.says_anything("rope_scaling") else newer
    share = 1.0
    if parameters.says("rope_type", "proportional"):  # of all dimensions some turn, which is no part of them
        share = parameters.number("partial_rotary_factor", 1.0)
        parameters = parameters.stating("partial_rotary_factor", 1.0)
        newer, config = parameters, config.stating("partial_rotary_factor", 1.0)
    theta = parameters.number("rope_theta", newer.number("rope_theta", config.number("rope_theta", theta)))
    dim = head_dim
    if partial is not None:
        partial = config.number("partial_rotary_factor", partial)
        dim = int(head_dim * parameters.number("partial_rotary_factor", newer.number("partial_rotary_factor", partial)))
    for place in (config, parameters, newer) if partial is None else ():
        place.require("partial_rotary_factor", 1.0)
    if dim < 2 or dim % 2 or dim > head_dim or theta <= 1:
        raise MoedgeError(
            f"{config.source} rotates {dim} of {head_dim} dimensions by powers of {theta}, which cannot be: correct it."
        )
    key = "rope_type" if parameters.has("rope_type") else "type"
    parameters.require(key, *ROPE_KEYS)
    if not parameters.has(key) and parameters.has("factor") and not parameters.says("factor", 1.0):
        raise parameters.refuse("factor", "there is no rope_type that says what it scales")
    kind = parameters.text(key, "default")
    parameters.require_known(*ROPE_KEYS[kind])
    if kind == "proportional":
        scaling = Proportional(share, _positive(parameters, "factor", 1.0))
        return Rope(theta, dim, interleaved, scaling)
    return Rope(theta, dim, interleaved, _scaling(kind, config, parameters, dim // 2))


def _scaling(
    kind: str, config: Config, parameters: Config, frequencies: int
) -> Linear | Llama3 | Yarn | LongRope | None:
    match kind:
        case "yarn":
            return _yarn(config, parameters)
        case "longrope":
            return _longrope(config, parameters, frequencies)
        case "llama3":
            return _llama3(config, parameters)
        case "linear":
            return Linear(_positive(parameters, "factor"))
        case "dynamic":  # it begins beyond the positions that the model was made for, where no context of ours reaches
            _positive(parameters, "factor")
            longest = config.integer("max_position_embeddings")
            if _original(config, parameters) < longest:
                raise parameters.refuse(
                    "original_max_position_embeddings", f"it must not be below max_position_embeddings ({longest}) here"
                )
    return None


def _original(config: Config, parameters: Config) -> int:
    longest = config.integer("max_position_embeddings")
    inner = parameters.integer("original_max_position_embeddings", longest)
    return config.integer("original_max_position_embeddings", inner)


def _llama3(config: Config, parameters: Config) -> Llama3:
    low, high = _positive(parameters, "low_freq_factor"), _positive(parameters, "high_freq_factor")
    if low >= high:
        raise parameters.refuse("low_freq_factor", f"it must be below high_freq_factor ({high:g})")
    return Llama3(_positive(parameters, "factor"), low, high, _original(config, parameters))


def _yarn(config: Config, parameters: Config) -> Yarn:
    original = _original(config, parameters)
    if parameters.has("attention_factor") and parameters.has("attn_factor"):
        raise parameters.refuse("attn_factor", "attention_factor says the whole of what it is a part of: keep one")
    return Yarn(
        factor=_positive(parameters, "factor", config.integer("max_position_embeddings") / original),
        original_max_position_embeddings=original,
        beta_fast=_positive(parameters, "beta_fast", 32.0),
        beta_slow=_positive(parameters, "beta_slow", 1.0),
        mscale=parameters.number("mscale", 1.0),
        mscale_all_dim=parameters.number("mscale_all_dim", 0.0),
        attention_factor=_positive(parameters, "attention_factor") if parameters.has("attention_factor") else None,
        attn_factor=_positive(parameters, "attn_factor", 1.0),
        extrapolation_factor=parameters.number("extrapolation_factor", 1.0),
        truncate=parameters.flag("truncate", True),
    )


def _positive(parameters: Config, key: str, default: float | None = None) -> float:
    value = parameters.number(key, default)
    if value <= 0:
        raise parameters.refuse(key, "it must be above 0")
    if not 1e-6 < value < 1e9:
        raise parameters.refuse(key, "it must be a number that a model can have")
    return value


def _longrope(config: Config, parameters: Config, frequencies: int) -> LongRope:
    original = _original(config, parameters)
    factor = _positive(parameters, "factor", config.integer("max_position_embeddings") / original)
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    usual = parameters.number("attention_factor", usual)
    short, long = parameters.numbers("short_factor"), parameters.numbers("long_factor")
    if min(*short, *long) <= 0:
        raise parameters.refuse("short_factor" if min(short) <= 0 else "long_factor", "each must be above 0")
    if not len(short) == len(long) == frequencies:
        raise MoedgeError(
            f"{config.source} has {len(short)} short and {len(long)} long factors for {frequencies} rotary "
            "frequencies: correct it."
        )
    return LongRope(
        original, short, long, parameters.number("short_mscale", usual), parameters.number("long_mscale", usual)
    )


def read_decoder(
    config: Config,
    mixers: Sequence[Mixer | None],
    experts: Experts,
    moe_layers: tuple[int, ...],
    norm_eps: float = 1e-6,
    tied: bool = False,
) -> ModelConfig:
    """A decoder with the sizes that every config.json spells alike; `norm_eps` and `tied` are the family's defaults."""
    return ModelConfig(
        model_type=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        intermediate_size=config.integer("intermediate_size"),
        norm_eps=config.number("rms_norm_eps", norm_eps),
        tie_word_embeddings=config.flag("tie_word_embeddings", tied),
        max_position_embeddings=config.integer("max_position_embeddings"),
        mixers=tuple(mixers),
        experts=experts,
        moe_layers=moe_layers,
    )


def read_text_within(config: Config, model_type: str, tied: bool, read: Callable[[Config], ModelConfig]) -> ModelConfig:
    """The text model of a model that sees or hears too, whose configuration has its own within; or that alone."""
    if not config.has("text_config"):
        return read(config)
    text = config.section("text_config")
    text.require("model_type", model_type)
    tied = config.flag("tie_word_embeddings", text.flag("tie_word_embeddings", tied))  # the outer one decides
    model = read(text.stating("tie_word_embeddings", tied))
    return replace(model, model_type=config.text("model_type"))


def read_grouped_query(
    config: Config,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    interleaved: bool = False,
    theta: float = 10000.0,
    partial: float | None = None,
) -> GroupedQuery:
    """Heads, head size, rotary embedding and the usual scale of grouped-query attention, without biases and norms.

    `kv_heads` and `head_dim` are what absent keys mean to the family; usual are as many as heads, and
    hidden_size / heads. The others are `read_rope`'s.
    """
    heads = config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", head_dim or config.integer("hidden_size") // heads, most=MOST_HEAD_DIM)
    alike = kv_heads is None or config.mentions("num_key_value_heads")  # null: as many as heads
    kv_heads = config.integer("num_key_value_heads", heads if alike else kv_heads)
    rope = read_rope(config, head_dim, interleaved, theta, partial)
    return GroupedQuery(heads, kv_heads, head_dim, scale=head_dim**-0.5, rope=rope)


def read_latent(config: Config, rope: Rope) -> MultiHeadLatent:
    """DeepSeek's latent attention; `mscale_all_dim` sharpens the softmax itself, whatever the tables carry."""
    nope, rotary = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim", most=MOST_HEAD_DIM)
    yarn = rope.scaling if isinstance(rope.scaling, Yarn) else None
    sharpen = yarn.magnitude(yarn.mscale_all_dim) if yarn else 1.0
    return MultiHeadLatent(
        num_heads=config.integer("num_attention_heads"),
        q_lora_rank=config.integer("q_lora_rank") if config.has("q_lora_rank") else None,
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rotary,
        v_head_dim=config.integer("v_head_dim"),
        scale=(nope + rotary) ** -0.5 * sharpen**2,
        rope=rope,
        latent_norm_eps=1e-6,  # whatever rms_norm_eps says
        bias=config.flag("attention_bias", False),
    )


def sliding_layers(config: Config, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """The layers that `layer_types` calls sliding_attention; `otherwise` where the config has no such list."""
    types = config.texts("layer_types")
    if not types:
        return otherwise
    config.require_each("layer_types", "full_attention", "sliding_attention")
    if len(types) != (layers := config.integer("num_hidden_layers")):
        raise config.refuse("layer_types", f"it must name each of the {layers} layers")
    return tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")


def with_window(config: Config, attention: GroupedQuery) -> GroupedQuery:
    """The same attention with the window that `sliding_window` names, if it does."""
    return replace(attention, window=config.integer("sliding_window")) if config.has("sliding_window") else attention


def slide(attention: GroupedQuery, layers: int, window: int, sliding: Collection[int]) -> tuple[GroupedQuery, ...]:
    """That attention in each layer, through the window in the layers of `sliding`."""
    return tuple(replace(attention, window=window) if layer in sliding else attention for layer in range(layers))


def patterns_after_last(
    config: Config, layers: int, key: str = "num_nextn_predict_layers", default: int = 1
) -> tuple[str, ...]:
    """Patterns of the multi-token-prediction layers, which stand after the last one and are no part of decoding."""
    count = config.spelled(key, "num_mtp_layers").integer(key, default, least=0, most=64)
    return tuple(rf"model\.layers\.{i}\..*" for i in range(layers, layers + count))
