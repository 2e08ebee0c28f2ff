"""Which chat format an exporter finds, from templates of our own and tokenizers of a few tokens."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.tokenizer.chat_signs import detect
from moedge.export.tokenizer.talking import read_talking

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"
THINKING = "{% set said = content.split('</think>')[-1] %}"
TEMPLATES = {
    "kimi_k2": "<|tool_calls_section_begin|>{{ calls }}<|tool_calls_section_end|>",
    "gpt_oss": "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>",
    "gemma4": '<|tool_call>call:{{ f.name }}{a:<|"|>{{ a }}<|"|>}<tool_call|>',
    "cohere": '<|START_ACTION|>[{"tool_name": {{ f.name | tojson }}}]<|END_ACTION|>',
    "deepseek_v3": "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ f.name }}\n```json\n{{ f.arguments }}\n```",
    "deepseek_v3_1": "<｜tool▁call▁begin｜>{{ name }}<｜tool▁sep｜>{{ arguments }}<｜tool▁call▁end｜>",
    "lfm2": "<|tool_call_start|>[{{ calls }}]<|tool_call_end|>",
    "mistral": "[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}",
    "glm": "<tool_call>{{ name }}\n<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n</tool_call>",
    "qwen3_coder": "<tool_call>\n<function={{ name }}>\n<parameter={{ k }}>\n{{ v }}\n</parameter>\n</function>",
    "granite": "<|start_of_role|>{{ m.role }}<|end_of_role|><tool_call>\n{{ call }}\n</tool_call>",
    "ernie": "<response>\n{{ m.content }}\n</response>\n<tool_call>\n{{ call | tojson }}\n</tool_call>\n",
    "hermes": "<tool_call>\n{{ call | tojson }}\n</tool_call>",
    "think": "{% if enable_thinking %}<think>{% endif %}",
    "plain": "<|tool_response|>{{ result }}",
}


def tokenizer(*tokens: str) -> Tokenizer:
    built = Tokenizer(models.BPE({"a": 0}, []))
    built.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    return built


@pytest.mark.parametrize(("chat_format", "call"), TEMPLATES.items(), ids=TEMPLATES)
def test_the_template_shows_the_form_of_calls(chat_format, call):
    assert detect(tokenizer(), TOOLS + TURNS + call) == chat_format
    thinking = "think" if chat_format == "plain" else chat_format
    assert detect(tokenizer(), TOOLS + TURNS + call + THINKING) == thinking


@pytest.mark.parametrize(
    ("tokens", "template", "chat_format"),
    [
        (("<|tool_call_start|>", "<|tool_call_end|>"), TOOLS + TURNS, "lfm2"),
        (("<|start_of_role|>", "<|tool_call|>"), TOOLS + TURNS, "granite"),
        (("<|start_of_role|>",), TOOLS + TURNS + "with <|tool_call|> and a list", "granite"),
        (("<|tool_calls_section_begin|>",), "tool_declare" + TOOLS + TURNS, "kimi_k2"),
        ((), "<|turn>model\n{{ m.content }}<turn|>{% if off %}<|channel>thought\n<channel|>{% endif %}", "gemma4"),
        ((), "<|CHATBOT_TOKEN|><|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>", "cohere"),
        ((), "<|CHATBOT_TOKEN|>{% if reasoning %}<|START_THINKING|>{% endif %}", "cohere"),
        # a vocabulary alone says nothing, where the template shows the model no tools
        (("<|tool_calls_section_begin|>", "<|tool_call_start|>", "<tool_call>", "[TOOL_CALLS]"), TURNS, "plain"),
        (("<|tool_call|>",), TOOLS + TURNS, "plain"),
        # tuned for another format than that of the vocabulary's makers
        (("[TOOL_CALLS]", "[ARGS]"), TOOLS + TURNS + TEMPLATES["hermes"], "hermes"),
        (("<tool_call>", "</tool_call>"), TURNS + TEMPLATES["deepseek_v3"], "deepseek_v3"),
        (("<|tool_call_start|>",), TOOLS + TURNS + TEMPLATES["hermes"], "hermes"),
        (("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"), TURNS + THINKING, "think"),
        (("<|tool_calls_section_begin|>",), None, "plain"),
    ],
)
def test_vocabularies_count_after_templates(tokens, template, chat_format):
    assert detect(tokenizer(*tokens), template) == chat_format


def test_an_export_takes_what_it_finds(tmp_path):
    tokenizer("<tool_call>").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "kimi_k2", "eos_token_id": 0}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TURNS + TEMPLATES["glm"]}))
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    assert read_talking(Checkpoint(tmp_path)).chat_format == "glm"
