"""What each architecture is called in GGUF: its facts and its tensors, as data.

What is done to a tensor is a word here, and what the word means is gguf_file.py's.

Checked by tests/test_peers_gguf.py: llama.cpp's logits of a file written so are transformers' own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# How a tensor of transformers' becomes one of GGUF's; rows are outputs in both, if not said otherwise.
#   as_it_is
#   pairs_q, pairs_k: rows of a head from halves to pairs, as llama.cpp's "normal" rotary order wants them
#   first_half, second_half: of the rows of gate and up, one below the other
#   even_columns, odd_columns: of gate and up in turn, stored input first
#   turned: stored input first
#   keys, values: of a latent's up-projection, by head; keys turned
#   even, odd: entries of a bias in turn
#   squeezed: without its middle size of 1
Change = Literal[
    "as_it_is", "pairs_q", "pairs_k", "first_half", "second_half", "even_columns", "odd_columns", "turned", "keys",
    "values", "even", "odd", "squeezed",
]  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's. `tensors` by the end of a name in transformers': name in GGUF, and what is done to it.

    `facts` by the key in GGUF, without the architecture: the key in config.json, or a value.
    """

    name: str
    tensors: Mapping[str, tuple[tuple[str, Change], ...]]
    facts: Mapping[str, str | float | bool] = field(default_factory=dict)


def _same(names: Mapping[str, str]) -> dict[str, tuple[tuple[str, Change], ...]]:
    return {f"{ours}.weight": ((f"{theirs}.weight", "as_it_is"),) for ours, theirs in names.items()}


_ENDS = _same({"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"})
_NORMS = _same({"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"})
_HALVES = _same({"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"})
_PAIRS: dict[str, tuple[tuple[str, Change], ...]] = {
    "self_attn.q_proj.weight": (("attn_q.weight", "pairs_q"),),
    "self_attn.k_proj.weight": (("attn_k.weight", "pairs_k"),),
}
_REST = _same({"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"})
_QK_NORM = _same({"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"})
_ROUTER = _same({"mlp.gate": "ffn_gate_inp"})
_EXPERTS: dict[str, tuple[tuple[str, Change], ...]] = {
    "experts.gate_up_proj": (("ffn_gate_exps.weight", "first_half"), ("ffn_up_exps.weight", "second_half")),
    "experts.down_proj": (("ffn_down_exps.weight", "as_it_is"),),
}
_HEADS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "expert_used_count": "num_experts_per_tok",
    "vocab_size": "vocab_size",
}
_JOINT = {"feed_forward_length": "intermediate_size", "expert_feed_forward_length": "intermediate_size"}
_APART = {"feed_forward_length": "intermediate_size", "expert_feed_forward_length": "moe_intermediate_size"}
SIGMOID = 2  # of llama.cpp's gating functions

ARCHITECTURES = {
    "granitemoe": Architecture(
        "granitemoe",
        _ENDS | _NORMS | _PAIRS | _REST | _same({"block_sparse_moe.router": "ffn_gate_inp"}) | _EXPERTS,
        _HEADS
        | {"feed_forward_length": "intermediate_size", "expert_count": "num_local_experts"}
        | {"attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier"}
        | {"residual_scale": "residual_multiplier", "logit_scale": "logits_scaling"},
    ),
    "olmoe": Architecture(
        "olmoe",
        _ENDS | _NORMS | _HALVES | _REST | _QK_NORM | _ROUTER | _EXPERTS,
        _HEADS | _JOINT | {"expert_count": "num_experts"},
    ),
    "qwen3_moe": Architecture(
        "qwen3moe",
        _ENDS | _NORMS | _HALVES | _REST | _QK_NORM | _ROUTER | _EXPERTS,
        _HEADS | _APART
        | {"expert_count": "num_experts", "attention.key_length": "head_dim", "attention.value_length": "head_dim"},
    ),
    "deepseek_v3": Architecture(
        "deepseek2",
        _ENDS | _NORMS | _ROUTER | _EXPERTS
        | _same({"self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm"})
        | _same({"self_attn.q_b_proj": "attn_q_b", "self_attn.o_proj": "attn_output"})
        | _same({"self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm"})
        | {"self_attn.kv_b_proj.weight": (("attn_k_b.weight", "keys"), ("attn_v_b.weight", "values"))}
        | _same({f"mlp.{n}_proj": f"ffn_{n}" for n in ("gate", "up", "down")})
        | _same({f"mlp.shared_experts.{n}_proj": f"ffn_{n}_shexp" for n in ("gate", "up", "down")})
        | {"mlp.gate.e_score_correction_bias": (("exp_probs_b.bias", "as_it_is"),)},
        _HEADS | _APART
        | {"expert_count": "n_routed_experts", "expert_shared_count": "n_shared_experts"}
        | {"leading_dense_block_count": "first_k_dense_replace", "expert_weights_scale": "routed_scaling_factor"}
        | {"expert_weights_norm": "norm_topk_prob", "expert_gating_func": SIGMOID, "attention.head_count_kv": 1}
        | {"attention.q_lora_rank": "q_lora_rank", "attention.kv_lora_rank": "kv_lora_rank"}
        | {"rope.dimension_count": "qk_rope_head_dim"}
        | {"attention.key_length": "kv_lora_rank+qk_rope_head_dim", "attention.value_length": "kv_lora_rank"}
        | {"attention.key_length_mla": "qk_nope_head_dim+qk_rope_head_dim", "attention.value_length_mla": "v_head_dim"},
    ),
    "lfm2_moe": Architecture(
        "lfm2moe",
        _same({"model.embed_tokens": "token_embd", "model.embedding_norm": "token_embd_norm"})
        | _same({"operator_norm": "attn_norm", "ffn_norm": "ffn_norm"})
        | _HALVES
        | _same({"self_attn.v_proj": "attn_v", "self_attn.out_proj": "attn_output"})
        | _same({"self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm"})
        | {"conv.conv.weight": (("shortconv.conv.weight", "squeezed"),)}
        | _same({"conv.in_proj": "shortconv.in_proj", "conv.out_proj": "shortconv.out_proj"})
        | _same({"feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up", "feed_forward.w2": "ffn_down"})
        | _same({"feed_forward.gate": "ffn_gate_inp"}) | _EXPERTS
        | {"feed_forward.expert_bias": (("exp_probs_b.bias", "as_it_is"),)},
        {key: value for key, value in _HEADS.items() if "head_count_kv" not in key} | _APART
        | {"expert_count": "num_experts", "leading_dense_block_count": "num_dense_layers"}
        | {"expert_gating_func": SIGMOID, "shortconv.l_cache": "conv_L_cache"}
        | {"attention.layer_norm_rms_epsilon": "norm_eps"},
    ),
    "gpt_oss": Architecture(
        "gpt-oss",
        _ENDS | _HALVES | _REST
        | _same({"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm"})
        | {
            f"self_attn.{ours}_proj.bias": ((f"attn_{theirs}.bias", "as_it_is"),)
            for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output"))
        }
        | _same({"mlp.router": "ffn_gate_inp"})
        | {
            "self_attn.sinks": (("attn_sinks.weight", "as_it_is"),),
            "mlp.router.bias": (("ffn_gate_inp.bias", "as_it_is"),),
            "experts.gate_up_proj": (("ffn_gate_exps.weight", "even_columns"), ("ffn_up_exps.weight", "odd_columns")),
            "experts.gate_up_proj_bias": (("ffn_gate_exps.bias", "even"), ("ffn_up_exps.bias", "odd")),
            "experts.down_proj": (("ffn_down_exps.weight", "turned"),),
            "experts.down_proj_bias": (("ffn_down_exps.bias", "as_it_is"),),
        },
        _HEADS | _JOINT
        | {"expert_count": "num_local_experts"}
        | {"attention.key_length": "head_dim", "attention.value_length": "head_dim"}
        | {"attention.sliding_window": "sliding_window", "rope.scaling.type": "=yarn"}
        | {"rope.scaling.factor": "rope_scaling.factor"}
        | {"rope.scaling.original_context_length": "rope_scaling.original_max_position_embeddings"}
        | {"rope.scaling.yarn_beta_fast": "rope_scaling.beta_fast"}
        | {"rope.scaling.yarn_beta_slow": "rope_scaling.beta_slow"},
    ),
}  # fmt: skip


def fact(config: Mapping[str, Any], said: str | float | bool) -> Any:
    """A value of `Architecture.facts`: what "key", "key.inner" and "key+key" say of a config.json; "=text" is text."""
    if not isinstance(said, str):
        return said
    if said.startswith("="):
        return said[1:]
    if "+" in said:
        return sum(fact(config, part) for part in said.split("+"))
    outer, _, inner = said.partition(".")
    return config[outer][inner] if inner else config[outer]
