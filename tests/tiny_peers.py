"""The benchmark's shapes made small: the same keys of config.json, so that names and facts are what they are there."""

from dataclasses import replace

from peers.shapes import SHAPES, PeerShape

SMALL = {
    "hidden_size": 128, "intermediate_size": 96, "moe_intermediate_size": 64, "vocab_size": 300,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8, "num_local_experts": 8,
    "n_routed_experts": 8, "num_experts_per_tok": 3, "kv_lora_rank": 64, "q_lora_rank": 48, "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16, "v_head_dim": 32, "sliding_window": 16,
}  # fmt: skip
ALL_HEADS = ("olmoe", "moonlight")  # as published: as many keys as queries


def tiny_shape(name: str) -> PeerShape:
    """Up to four layers of a small one."""
    shape = SHAPES[name]
    config = {key: SMALL.get(key, value) for key, value in shape.config.items()}
    config["num_hidden_layers"] = layers = min(4, shape.layers)
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:layers]
    if name in ALL_HEADS:
        config["num_key_value_heads"] = config["num_attention_heads"]
    return replace(shape, config=config)
