"""A shape in transformers and torch: the module with its numbers in bf16, and what it says in fp32."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, initialization

from peers.shapes import PeerShape
from peers.weights import all_numbers


def torch_model(shape: PeerShape, experts: str = "eager") -> Any:
    """The module in bf16; `experts` names one of transformers' implementations."""
    config = AutoConfig.for_model(**shape.config)
    with initialization.no_init_weights():
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, experts_implementation=experts)
    module = made.eval()
    places = dict(module.named_parameters()) | dict(module.named_buffers())
    with torch.no_grad():
        for weight, values in all_numbers(shape):
            numbers = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
            places[weight.name].copy_(numbers)
    module.tie_weights()
    return module


@dataclass(frozen=True)
class Reference:
    """What the exact model says of some tokens, and how it routes them, averaged over layers.

    `used` is the share of experts that any of them used, `repeated` the share of a token's experts that its
    predecessor used too.
    """

    logits: NDArray[np.float32]  # [n, vocab]
    used: float
    repeated: float
    repeated_by_layer: tuple[float, ...]


def refer(module: Any, shape: PeerShape, token_ids: NDArray[np.int64]) -> Reference:
    """Run them through the bf16 weights, all arithmetic in fp32: a layer at a time is widened."""
    chosen: list[NDArray[np.int64]] = []
    decoder, hooks = module.model, []
    for part in (*decoder.layers, module.lm_head):
        hooks.append(part.register_forward_pre_hook(lambda part, _: part.float() and None))
        hooks.append(part.register_forward_hook(lambda part, *_: part.bfloat16() and None))
    hooks.append(decoder.embed_tokens.register_forward_hook(lambda _m, _i, out: out.float()))
    for name, part in decoder.named_modules():
        if name.endswith((".gate", ".router")):
            hooks.append(part.register_forward_pre_hook(_listen(chosen, shape.chosen)))
    try:
        with torch.no_grad():
            logits = module(torch.from_numpy(token_ids)[None], use_cache=False).logits[0].float().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    spread = [_spread(each, shape.experts) for each in chosen]
    repeated = tuple(each[1] for each in spread)
    used = float(np.mean([each[0] for each in spread]))
    return Reference(logits, used, float(np.mean(repeated)), repeated)


def _listen(chosen: list[NDArray[np.int64]], count: int) -> Callable[..., None]:
    """Routers differ in what they give and not in what they read; correction biases are small beside the scores."""

    def listen(router: Any, inputs: tuple[Any, ...]) -> None:
        read = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
        bias = getattr(router, "bias", None)
        scores = torch.nn.functional.linear(read, router.weight.float(), None if bias is None else bias.float())
        chosen.append(scores.topk(count, dim=-1).indices.numpy())

    return listen


def _spread(chosen: NDArray[np.int64], experts: int) -> tuple[float, float]:
    """Share of experts used, and share of a token's that its predecessor used; `chosen` [tokens, top_k]."""
    same = [len(set(a) & set(b)) / len(b) for a, b in zip(chosen[:-1].tolist(), chosen[1:].tolist(), strict=True)]
    return len(np.unique(chosen)) / experts, float(np.mean(same))
