"""Kimi K2.5 and later: the text model, which is Kimi K2's, out of a checkpoint that also sees images.

Source: modeling_kimi_k25.py of transformers 5.23. Images are not supported: their tower and projector are left out.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.deepseek_v3 import read as read_text
from moedge.export.model.config import ModelConfig

MODEL_TYPES = {"kimi_k25": "Kimi K2.5 and K2.6, text only"}
ATTENTION = "latent"
LEFT_OUT = "images"


def read(config: Config) -> ModelConfig:
    """The text model that a kimi_k25 config.json describes."""
    text = config.section("text_config")
    text.require("model_type", "kimi_k2", "deepseek_v3")
    model = read_text(text)
    return replace(
        model,
        model_type=config.text("model_type"),
        tie_word_embeddings=config.flag("tie_word_embeddings", True),
        names=model.names.ignoring(r"(model\.)?(vision_tower|mm_projector)\..*"),
    )
