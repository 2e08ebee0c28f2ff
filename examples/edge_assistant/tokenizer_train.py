"""Owns the tokenizer: a byte-level BPE trained on generated conversations, any UTF-8 text encodes and decodes exactly.

Two choices keep sequences short and copying easy: the fixed JSON around a tool declaration is one piece for the
pre-tokenizer, so BPE merges it into a token; and a space is a piece of its own, so that a word has the same tokens
in a sentence, in a JSON string and in a tool's name.
"""

import itertools
import json
from pathlib import Path

from data import HERE, training_texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = [
    "[BOS]",
    "[EOS]",
    "[PAD]",
    "[UNK]",
    "<|im_end|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<think>",
    "</think>",
]
SKELETON = [
    r'\[\{"type":"function","function":\{"name":"',
    r'"\]\}\}\},\{"type":"function","function":\{"name":"',
    r'\}\}\}\},\{"type":"function","function":\{"name":"',
    r'"\]\}\}\}\]',
    r'","description":"',
    r'","parameters":\{"type":"object","properties":\{"',
    r'":\{"type":"string","enum":\["',
    r'\},"required":\["',
    r'":\{"type":"(?:string|integer|boolean)"\},"required":\["',
    r'":\{"type":"(?:string|integer|boolean)"\},"',
    r'":\{"type":"(?:string|integer|boolean)"\}\}\}\}',
    r'":\{"type":"(?:string|integer|boolean|number)"',
    r'"\]\},"required":\["',
    r'"\},"required":\["',
    r'"\]\},"',
    r'"\},"',
    r'\},"',
    r'","',
    r'\{"',
    r'"\}',
    r'":"',
    r'":',
    r',"',
    r'="',
    r"## Return of functions\.",
    r"functions\.",
    r" -> ",
]
PATTERN = "|".join([*SKELETON, r"\p{L}\p{M}*(?:\p{L}|\p{M})*", r"\p{N}", r" ", r"\s", r"[^\s\p{L}\p{N}]"])


def train_tokenizer(vocabulary: int, samples: int) -> Tokenizer:
    """Train on `samples` conversations of the full mix."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
    )
    tokenizer.train_from_iterator(itertools.islice(training_texts(7, 1.0), samples), trainer)
    return tokenizer


def main() -> None:
    """Write `tokenizer.json` and its configuration."""
    folder = HERE / "checkpoint"
    folder.mkdir(exist_ok=True)
    tokenizer = train_tokenizer(1024, 20000)
    tokenizer.save(str(folder / "tokenizer.json"))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "[BOS]",
        "eos_token": "<|im_end|>",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    Path(folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n")


if __name__ == "__main__":
    main()
