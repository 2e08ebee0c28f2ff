"""Checkpoints of tiny models whose experts are laid out and named as other tools write them, the numbers unchanged."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

Tensors = dict[str, torch.Tensor]
_PART = {"gate_proj": 0, "w1": 0, "up_proj": 1, "w3": 1, "down_proj": 2, "w2": 2}
_EACH = re.compile(r"(.*(?:layers|blocks)\.\d+(?:\.\w+)?)\.experts\.(\d+)\.(\w+)\.weight")
_ALL = re.compile(
    r"(.*layers\.\d+(?:\.(?!shared_)\w+)?)\.(?:experts\.(gate_up_proj|down_proj)|(in|out)put_linear\.weight)(_bias)?"
)


@dataclass
class Experts:
    """One layer's, [E, I, H], [E, I, H] and [E, H, I], with biases [E, .] if they have any."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    biases: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    in_turn: bool = False  # where gate and up are one matrix, their rows alternate

    def parts(self) -> list[tuple[str, torch.Tensor, torch.Tensor | None]]:
        """Name, weights and biases of the three projections."""
        weights, biases = (self.gate, self.up, self.down), self.biases or (None, None, None)
        return list(zip(("gate_proj", "up_proj", "down_proj"), weights, biases, strict=True))

    def joint(self) -> list[tuple[str, torch.Tensor, torch.Tensor | None]]:
        """The same with gate and up as one."""
        (_, gate, gate_bias), (_, up, up_bias), down = self.parts()
        bias = None if gate_bias is None or up_bias is None else self._join(gate_bias, up_bias)
        return [("gate_up_proj", self._join(gate, up), bias), down]

    def _join(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        if self.in_turn:
            return torch.stack([gate, up], 2).flatten(1, 2)
        return torch.cat([gate, up], 1)


def take_experts(tensors: Tensors) -> tuple[Tensors, dict[str, Experts]]:
    """The other tensors, and the experts by the module that they are in, from what transformers saved."""
    rest, each, whole = dict(tensors), dict[str, dict[int, dict[int, torch.Tensor]]](), dict[str, Tensors]()
    for name in tensors:
        if match := _EACH.fullmatch(name):
            each.setdefault(match[1], {}).setdefault(_PART[match[3]], {})[int(match[2])] = rest.pop(name)
        elif match := _ALL.fullmatch(name):
            part = "gate_up" if "gate_up" in name or match[3] == "in" else "down"
            whole.setdefault(match[1], {})[part + (match[4] or "")] = rest.pop(name)
    found = {
        module: Experts(*(torch.stack([by[e] for e in sorted(by)]) for _, by in sorted(parts.items())))
        for module, parts in each.items()
    }
    for module, parts in whole.items():
        if "gate_up_bias" not in parts:
            found[module] = Experts(*parts["gate_up"].chunk(2, 1), parts["down"])
            continue
        gate_up, bias = parts["gate_up"].transpose(1, 2), parts["gate_up_bias"]
        biases = bias[:, ::2], bias[:, 1::2], parts["down_bias"]
        found[module] = Experts(gate_up[:, ::2], gate_up[:, 1::2], parts["down"].transpose(1, 2), biases, True)
    return rest, found


def each_expert(experts: Experts, place: str = "experts.#.", joint: bool = False, numbered: bool = False) -> Tensors:
    """A module an expert and projection; `#` is the expert."""
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"} if numbered else {}
    out = {}
    for part, weights, biases in experts.joint() if joint else experts.parts():
        for e, weight in enumerate(weights):
            name = f"{place}{names.get(part, part)}".replace("#", str(e))
            out[f"{name}.weight"] = weight
            if biases is not None:
                out[f"{name}.bias"] = biases[e]
    return out


def stacked(experts: Experts, place: str, joint: bool, module: bool) -> Tensors:
    """A tensor of all experts a projection, a parameter by itself or a module's weight."""
    out = {}
    for part, weights, biases in experts.joint() if joint else experts.parts():
        turned = joint and experts.in_turn
        out[f"{place}{part}" + (".weight" if module else "")] = weights.transpose(1, 2) if turned else weights
        if biases is not None:
            out[f"{place}{part}" + (".bias" if module else "_bias")] = biases
    return out


def unsloth(experts: Experts) -> Tensors:
    """`gate_up_projs.#` and `down_projs.#`."""
    out = {}
    for part, weights, biases in experts.joint():
        for e, weight in enumerate(weights):
            out[f"experts.{part}s.{e}.weight"] = weight
            if biases is not None:
                out[f"experts.{part}s.{e}.bias"] = biases[e]
    return out


LAYOUTS: dict[str, Callable[[Experts], Tensors]] = {
    "an expert, three matrices": each_expert,
    "an expert, w1 w2 w3": lambda experts: each_expert(experts, numbered=True),
    "an expert, gate and up in one": lambda experts: each_expert(experts, joint=True),
    "unsloth": unsloth,
    "transformers 5": lambda experts: stacked(experts, "experts.", joint=True, module=False),
    "transformers 5, as modules": lambda experts: stacked(experts, "experts.", joint=True, module=True),
    "three parameters": lambda experts: stacked(experts, "experts.", joint=False, module=False),
    "MLX": lambda experts: stacked(experts, "switch_mlp.", joint=False, module=True),
    "MLX, as experts": lambda experts: stacked(experts, "experts.", joint=False, module=True),
    "Granite": lambda experts: {
        f"{name}.weight": weight
        for name, (_, weight, _) in zip(
            ("input_linear", "output_linear"), replace(experts, in_turn=False).joint(), strict=True
        )
    },
}


def lay_out(tensors: Tensors, layout: str, in_halves: bool = False) -> Tensors:
    """The checkpoint with its experts in one of LAYOUTS; `in_halves`: also those whose makers let rows alternate."""
    rest, found = take_experts(tensors)
    assert found
    for module, experts in found.items():
        experts = replace(experts, in_turn=experts.in_turn and not in_halves)
        rest |= {f"{module}.{name}": tensor.contiguous() for name, tensor in LAYOUTS[layout](experts).items()}
    return {name: tensor.clone() for name, tensor in rest.items()}


def as_mlx(tensors: Tensors, heads: int, nope: int) -> Tensors:
    """All of a checkpoint as mlx-lm converts it: experts stacked, latent attention absorbed, convolutions turned."""
    out = dict[str, torch.Tensor]()
    for name, tensor in lay_out(tensors, "MLX").items():
        for old, new in ((".w1.", ".gate_proj."), (".w2.", ".down_proj."), (".w3.", ".up_proj.")):
            name = name.replace(old, new)
        if name.endswith("kv_b_proj.weight"):
            keys, values = tensor.view(heads, -1, tensor.shape[1]).split((nope, len(tensor) // heads - nope), 1)
            out[name.replace("kv_b_proj", "embed_q")] = keys.transpose(1, 2).contiguous()
            out[name.replace("kv_b_proj", "unembed_out")] = values.contiguous()
        else:
            turned = ".conv.conv." in name or name.endswith("conv1d.weight")
            out[name] = tensor.transpose(1, 2).contiguous() if turned else tensor
    return out
