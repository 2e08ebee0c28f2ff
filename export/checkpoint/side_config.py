"""Files beside config.json in which tools state a quantization that config.json does not mention.

It finds the statement; what it means is published.py.
"""

import json
from pathlib import Path
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.foreign import explain_missing, list_names, refuse_stand_in

# By file: the key that holds the statement, and the method that it leaves unsaid.
_FILES = {
    "quantization_config.json": ("", ""),  # AutoRound
    "hf_quant_config.json": ("quantization", "modelopt"),
    "quantize_config.json": ("", "gptq"),  # AutoGPTQ
    "quant_config.json": ("", "awq"),  # AutoAWQ
}
SIDE_NAMES = tuple(_FILES)
_STATED = ("quantization_config", "compression_config", "quantization")


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json, with the quantization_config that a file beside it states if it has none itself."""
    config = read_object(folder, "config.json")
    text = config.get("text_config")
    if any(Config(place).says_anything(key) for place in (config, text) if isinstance(place, dict) for key in _STATED):
        return config
    for name, (key, method) in _FILES.items():
        if (folder / name).is_file():
            side = read_object(folder, name)
            stated = side.get(key, side)
            if isinstance(stated, dict) and stated:
                return config | {"quantization_config": ({"quant_method": method} if method else {}) | stated}
    return config


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a folder, in UTF-8 with or without a byte order mark; MoedgeError if it is missing or broken."""
    path = folder / name
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise explain_missing(folder, list_names(folder), name) from None
    except (ValueError, RecursionError) as error:
        refuse_stand_in(path)
        raise MoedgeError(f"{path} is not valid JSON ({error}): correct it or download it again.") from None
    if not isinstance(data, dict):
        raise MoedgeError(f"{path} does not hold a JSON object: download it again.")
    return data
