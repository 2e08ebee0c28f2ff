"""GLM-4.5V and GLM-4.6V: the text model, which is GLM-4.5's, out of a checkpoint that also sees images and videos.

Source: modeling_glm4v_moe.py of transformers 5.24; GLM-4.5V (arXiv:2507.01006). Images are not supported: their tower
is left out. Of the three positions of a token, which turn images (`mrope_section`), text has one only.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.glm4_moe import read as read_text
from moedge.export.model.config import ModelConfig

MODEL_TYPES = {"glm4v_moe": "GLM-4.5V, GLM-4.6V, text only"}
ATTENTION = "grouped-query"
LEFT_OUT = "images, multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The text model that a glm4v_moe config.json describes."""
    text = config.section("text_config").otherwise("model_type", "glm4v_moe_text")
    text.require("model_type", "glm4v_moe_text")
    text.require("use_qk_norm", False)  # this family has no such norms
    model = read_text(text.otherwise("attention_bias", True))
    return replace(
        model,
        model_type=config.text("model_type"),
        # transformers 5 ties if either of the two says so
        tie_word_embeddings=model.tie_word_embeddings or config.flag("tie_word_embeddings", False),
        names=model.names.ignoring(r"(model\.)?(visual|vision_tower)\..*"),
    )
