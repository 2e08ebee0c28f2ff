"""Kimi-VL: the text model, which is DeepSeek-V3's, out of a checkpoint that also sees images.

Source: the makers' modeling_kimi_vl.py; Kimi-VL (arXiv:2504.07491). Images are not supported: their tower and projector
are left out.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.deepseek_v3 import read as read_text
from moedge.export.model.config import ModelConfig

MODEL_TYPES = {"kimi_vl": "Kimi-VL-A3B-Instruct and -Thinking, text only"}
ATTENTION = "latent"
LEFT_OUT = "images"


def read(config: Config) -> ModelConfig:
    """The text model that a kimi_vl config.json describes."""
    text = config.section("text_config").otherwise("model_type", "deepseek_v3")
    text.require("model_type", "deepseek_v3")
    model = read_text(text)
    return replace(
        model,
        model_type=config.text("model_type"),
        tie_word_embeddings=config.flag("tie_word_embeddings", model.tie_word_embeddings),
        names=model.names.ignoring(r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
    )
