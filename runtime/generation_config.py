"""A bundle's generation_config.json: what the model's makers recommend for sampling, and where answers end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import GENERATION_NAME, pick_sampling
from moedge.runtime.sampling import SamplingParams


def read_generation_config(path: Path) -> dict[str, Any]:
    """What it says, nothing where there is none; MoedgeError if it is no JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"{path} is not JSON ({error}): export the bundle again.") from None
    if not isinstance(data, dict):
        raise MoedgeError(f"{path} is not a JSON object: export the bundle again.")
    return data


def default_params(config: Mapping[str, Any]) -> SamplingParams:
    """What the model's makers recommend; silence means plain sampling, `do_sample` false means greedy.

    MoedgeError for values out of bounds.
    """
    stated = pick_sampling(config)
    if config.get("do_sample") is False:
        stated["temperature"] = 0.0
    try:
        return SamplingParams(**stated)
    except MoedgeError as error:  # of an export before its values were checked
        said = str(error).rstrip(".")
        raise MoedgeError(f"the bundle's {GENERATION_NAME} says that {said}: export the bundle again.") from None


def eos_of(config: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end an answer by it; MoedgeError if it says something else."""
    eos = config.get("eos_token_id")
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in ids):
        raise MoedgeError(f"the bundle's {GENERATION_NAME} has no token ids as eos_token_id: export the bundle again.")
    return frozenset(ids)
