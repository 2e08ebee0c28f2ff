"""Tensors as makers name them: two layers of each family, the first dense where the family has dense ones.

`#` is the number of an expert. A family whose layers are of more than two kinds has one of each.
"""

TOP = "model.embed_tokens.weight model.norm.weight lm_head.weight"
NORMS = "input_layernorm.weight post_attention_layernorm.weight"
QKV = "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight"
QKV_BIAS = "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias"
GQA = f"{NORMS} {QKV} self_attn.o_proj.weight"
QK_NORM = "self_attn.q_norm.weight self_attn.k_norm.weight"
MLA = (
    f"{NORMS} self_attn.q_a_proj.weight self_attn.q_a_layernorm.weight self_attn.q_b_proj.weight "
    "self_attn.kv_a_proj_with_mqa.weight self_attn.kv_a_layernorm.weight self_attn.kv_b_proj.weight "
    "self_attn.o_proj.weight"
)


def each(module, *parts):
    return " ".join(f"{module}.{part}.weight" for part in parts)


PARTS = ("gate_proj", "up_proj", "down_proj")
DENSE = each("mlp", *PARTS)
EXPERTS = f"mlp.gate.weight {each('mlp.experts.#', *PARTS)}"
SHARED = each("mlp.shared_experts", *PARTS)
BIAS = "mlp.gate.e_score_correction_bias"
W_EXPERTS = f"block_sparse_moe.gate.weight {each('block_sparse_moe.experts.#', 'w1', 'w2', 'w3')}"
GRANITE = each("block_sparse_moe", "input_linear", "output_linear", "router.layer")
OSS = " ".join(f"mlp.experts.{part}{end}" for part in ("gate_up_proj", "down_proj") for end in ("", "_bias"))
DEEPSEEK = (f"{MLA} {DENSE}", f"{MLA} {EXPERTS} {BIAS} {SHARED}")
LFM2_NORMS = "operator_norm.weight ffn_norm.weight"
LINEAR_ATTENTION = each("linear_attn", "conv1d", "norm", "out_proj") + " linear_attn.A_log linear_attn.dt_bias"
SHARED_AND_GATE = f"{each('mlp.shared_expert', *PARTS)} mlp.shared_expert_gate.weight"
MAMBA = "mamba.A_log mamba.D mamba.dt_bias mamba.conv1d.bias " + each("mamba", "in_proj", "conv1d", "norm", "out_proj")
SHARED_MLP = each("shared_mlp", "input_linear", "output_linear")
GEMMA = (
    f"input_layernorm.weight post_attention_layernorm.weight pre_feedforward_layernorm.weight "
    f"post_feedforward_layernorm.weight {DENSE} {QK_NORM} layer_scalar "
    "pre_feedforward_layernorm_2.weight post_feedforward_layernorm_1.weight post_feedforward_layernorm_2.weight "
    "experts.gate_up_proj experts.down_proj router.proj.weight router.scale router.per_expert_scale "
    "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.o_proj.weight"
)
NORTH = f"input_layernorm.weight {QKV} self_attn.o_proj.weight"
SWASH = f"{GQA} self_attn.sinks block_sparse_moe.router.weight {SHARED_MLP} " + " ".join(
    f"block_sparse_moe.experts.{part}" for part in ("gate_up_proj", "down_proj")
)
TRINITY = f"{GQA} {QK_NORM} self_attn.gate_proj.weight pre_mlp_layernorm.weight post_mlp_layernorm.weight"
# top, layer 0, layer 1
NAMES = {
    "mixtral": (TOP, *2 * [f"{GQA} {W_EXPERTS}"]),
    "deepseek_v2": (TOP, f"{MLA} {DENSE}", f"{MLA} {EXPERTS} {SHARED}"),
    "deepseek_v3": (TOP, *DEEPSEEK),
    "kimi_k2": (TOP, *DEEPSEEK),
    "kimi_k25": (TOP, *DEEPSEEK),
    "kimi_vl": (TOP, *DEEPSEEK),
    "glm4_moe_lite": (TOP, *DEEPSEEK),
    "qwen2_moe": (TOP, *2 * [
        f"{GQA} {QKV_BIAS} {EXPERTS} {each('mlp.shared_expert', *PARTS)} mlp.shared_expert_gate.weight"
    ]),
    "qwen3_moe": (TOP, *2 * [f"{GQA} {QK_NORM} {EXPERTS}"]),
    "olmoe": (TOP, *2 * [f"{GQA} {QK_NORM} {EXPERTS}"]),
    "granitemoe": (TOP, *2 * [f"{GQA} {GRANITE}"]),
    "granitemoeshared": (TOP, *2 * [f"{GQA} {GRANITE} {each('shared_mlp', 'input_linear', 'output_linear')}"]),
    "lfm2_moe": (
        "model.embed_tokens.weight model.embedding_norm.weight",
        f"{LFM2_NORMS} {each('conv', 'conv', 'in_proj', 'out_proj')} {each('feed_forward', 'w1', 'w2', 'w3')}",
        f"{LFM2_NORMS} {QKV} {each('self_attn', 'out_proj', 'q_layernorm', 'k_layernorm')} feed_forward.gate.weight "
        f"feed_forward.expert_bias {each('feed_forward.experts.#', 'w1', 'w2', 'w3')}",
    ),
    "gpt_oss": (TOP, *2 * [
        f"{GQA} {QKV_BIAS} self_attn.o_proj.bias self_attn.sinks mlp.router.weight mlp.router.bias {OSS}"
    ]),
    "ernie4_5_moe": (
        "model.embed_tokens.weight model.norm.weight",
        f"{GQA} {DENSE}", f"{GQA} {EXPERTS} mlp.moe_statics.e_score_correction_bias {SHARED}",
    ),
    "glm4_moe": (TOP, f"{GQA} {QKV_BIAS} {DENSE}", f"{GQA} {QKV_BIAS} {EXPERTS} {BIAS} {SHARED}"),
    "glm4v_moe": (TOP, f"{GQA} {QKV_BIAS} {DENSE}", f"{GQA} {QKV_BIAS} {EXPERTS} {BIAS} {SHARED}"),
    "dots1": (TOP, f"{GQA} {QK_NORM} {DENSE}", f"{GQA} {QK_NORM} {EXPERTS} {BIAS} {SHARED}"),
    "phimoe": (
        f"{TOP} model.norm.bias lm_head.bias",
        *2 * [f"{GQA} {NORMS.replace('weight', 'bias')} {QKV_BIAS} self_attn.o_proj.bias {W_EXPERTS}"],
    ),
    "mellum": (TOP, f"{GQA} {QK_NORM} {DENSE}", f"{GQA} {QK_NORM} {EXPERTS}"),
    "qwen3_5_moe": (
        TOP,
        f"{NORMS} {LINEAR_ATTENTION} {each('linear_attn', 'in_proj_qkv', 'in_proj_z', 'in_proj_b', 'in_proj_a')} "
        f"mlp.gate.weight mlp.experts.gate_up_proj mlp.experts.down_proj {SHARED_AND_GATE}",
        f"{GQA} {QK_NORM} mlp.gate.weight mlp.experts.gate_up_proj mlp.experts.down_proj {SHARED_AND_GATE}",
    ),
    "qwen3_next": (
        TOP,
        f"{NORMS} {LINEAR_ATTENTION} {each('linear_attn', 'in_proj_qkvz', 'in_proj_ba')} {EXPERTS} {SHARED_AND_GATE}",
        f"{GQA} {QK_NORM} {EXPERTS} {SHARED_AND_GATE}",
    ),
    "granitemoehybrid": (TOP, f"{NORMS} {MAMBA} {GRANITE} {SHARED_MLP}", f"{GQA} {GRANITE} {SHARED_MLP}"),
    "granitemoe_swa": (TOP, *2 * [SWASH]),
    "nemotron_h": (
        "model.embeddings.weight model.norm_f.weight lm_head.weight",
        f"norm.weight {MAMBA.replace('mamba.', 'mixer.')}",
        f"norm.weight mixer.gate.weight mixer.gate.e_score_correction_bias "
        f"{each('mixer.shared_experts', 'up_proj', 'down_proj')} {each('mixer.experts.#', 'up_proj', 'down_proj')}",
        f"norm.weight {each('mixer', 'q_proj', 'k_proj', 'v_proj', 'o_proj')}",
        f"norm.weight {each('mixer', 'up_proj', 'down_proj')}",
    ),
    "gemma4": (
        "model.embed_tokens.weight model.norm.weight", f"{GEMMA} self_attn.v_proj.weight", GEMMA,
    ),
    "cohere2_moe": (TOP, f"{NORTH} {DENSE}", f"{NORTH} {EXPERTS} {SHARED}"),
    "laguna": (
        TOP, f"{GQA} {QK_NORM} self_attn.g_proj.weight {DENSE}",
        f"{GQA} {QK_NORM} self_attn.g_proj.weight {EXPERTS} mlp.experts.e_score_correction_bias "
        f"{each('mlp.shared_expert', *PARTS)}",
    ),
    "afmoe": (
        TOP, f"{TRINITY} {DENSE}",
        f"{TRINITY} {EXPERTS.replace('mlp.gate.', 'mlp.router.gate.')} mlp.expert_bias {SHARED}",
    ),
}  # fmt: skip
NEXT = ("embed_tokens.weight", "enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.head.weight",
        "shared_head.norm.weight", "mlp.experts.0.gate_proj.weight", BIAS)  # fmt: skip
# what published checkpoints hold beside the decoder: the layer that predicts one token more, and a tower for images
BESIDE = {
    "deepseek_v3": [f"model.layers.2.{part}" for part in NEXT],
    "glm4_moe": [f"model.layers.2.{part}" for part in NEXT],
    "glm4_moe_lite": [f"model.layers.2.{part}" for part in NEXT],
    "glm4v_moe": ["model.visual.patch_embed.proj.weight", "model.visual.blocks.0.attn.qkv.weight",
                  "model.visual.merger.gate_proj.weight",
                  *(f"model.language_model.layers.2.{part}" for part in NEXT)],
    "kimi_vl": ["vision_tower.patch_embed.pos_emb.weight", "vision_tower.encoder.blocks.0.wqkv.weight",
                "multi_modal_projector.linear_1.weight", "multi_modal_projector.pre_norm.bias"],
    "ernie4_5_moe": [f"model.mtp_{part}.weight" for part in (
        "block.0.self_attn.q_proj", "block.0.mlp.up_proj", "emb_norm.0", "hidden_norm.0", "linear_proj.0",
    )],
    "kimi_k25": ["vision_tower.patch_embed.proj.weight", "vision_tower.encoder.blocks.0.wqkv.weight",
                 "vision_tower.encoder.final_layernorm.bias", "mm_projector.proj.0.weight",
                 "mm_projector.pre_norm.weight"],
    "mellum": ["mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight"],
    "qwen3_5_moe": [
        "mtp.fc.weight", "mtp.norm.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.layers.0.mlp.gate.weight",
        "mtp.layers.0.mlp.experts.gate_up_proj", "mtp.layers.0.mlp.experts.0.down_proj.weight_scale_inv",
        "model.visual.patch_embed.proj.bias", "model.visual.pos_embed.weight", "model.visual.merger.norm.weight",
        "model.visual.blocks.0.attn.qkv.weight",
    ],
    "qwen3_next": ["mtp.fc.weight", "mtp.layers.0.mlp.experts.7.up_proj.weight", "mtp.pre_fc_norm_hidden.weight"],
    "nemotron_h": ["mtp.layers.0.mixer.q_proj.weight", "mtp.layers.1.mixer.experts.0.up_proj.weight",
                   "mtp.layers.0.eh_proj.weight"],
    "gemma4": [
        "model.vision_tower.encoder.layers.0.mlp.down_proj.linear.weight", "model.vision_tower.std_bias",
        "model.embed_vision.embedding_projection.weight", "model.vision_tower.patch_embedder.input_proj.weight",
        "model.audio_tower.layers.0.norm_out.weight", "model.embed_audio.embedding_projection.weight",
    ],
}  # fmt: skip
FIRST_DENSE = ("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "kimi_vl", "glm4_moe", "glm4v_moe", "dots1")
# what two layers of the others are made of
LAYERS = {
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mellum": {"layer_types": ["sliding_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse"]},
    **{
        family: {"layer_types": ["linear_attention", "full_attention"]}
        for family in ("qwen3_5_moe", "qwen3_next", "granitemoehybrid")
    },
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
    "gemma4": {"layer_types": ["sliding_attention", "full_attention"]},
    "laguna": {"layer_types": ["full_attention", "sliding_attention"], "num_attention_heads_per_layer": [4, 6]},
    "granitemoe_swa": {"layer_rope_theta": None},
    "afmoe": {"num_dense_layers": 1},
}
NO_CLASS = ("kimi_k2", "kimi_vl")  # transformers has none: they are deepseek_v3 under other names
PREFIX = {
    **dict.fromkeys(("kimi_k25", "kimi_vl"), "language_model.model."),
    **dict.fromkeys(("glm4v_moe", "qwen3_5_moe", "gemma4"), "model.language_model."),
    "nemotron_h": "backbone.",
}
