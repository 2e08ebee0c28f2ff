"""Owns the training run: batches, Muon and AdamW, the schedule by the clock, quantization-aware decay, state and log.

    python train.py --state ../../build/edge_assistant --start checkpoint

starts from a checkpoint's weights (without `--start`: from noise) or resumes; every few minutes the run writes its
state, and a checkpoint and `training_log.csv` into the folder `--to` (`checkpoint` in the state's folder).
"""

import argparse
import copy
import random
import shutil
import signal
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from data import HERE, training_text
from model import Assistant, Shape
from store import load_checkpoint, save_checkpoint
from tokenizers import Tokenizer
from torch import Tensor

Batch = tuple[Tensor, Tensor]


def assistant_mask(ids: np.ndarray, opening: int, middle: int, closing: int, user: int) -> np.ndarray:
    """True where a token is generated: after an assistant's `<|im_middle|>` up to and with its `<|im_end|>`.

    Turns before the last user's are history, whose thinking is emptied: nothing is to be learnt from them.
    """
    mask = np.zeros(len(ids), dtype=bool)
    assistant = inside = False
    for i, token in enumerate(ids):
        mask[i] = inside
        if token == opening:
            assistant = True
        elif token == middle and assistant:
            assistant, inside = False, True
        elif token == closing:
            inside = False
        elif token == user:
            mask[:] = False
    return mask


class Stream:
    """Endless batches of conversations of about one length, padded; made pool by pool from the generator."""

    def __init__(self, tokenizer: Tokenizer, batch_tokens: int, seed: int) -> None:
        self.tokenizer, self.batch_tokens = tokenizer, batch_tokens
        self.rng = random.Random(seed)
        marks = ("<|im_assistant|>", "<|im_middle|>", "<|im_end|>", "<|im_user|>")
        self.marks = [tokenizer.token_to_id(mark) for mark in marks]
        self.pad = tokenizer.token_to_id("[PAD]")

    def pool(self, level: float, conversations: int) -> Iterator[Batch]:
        """Shuffled batches (ids, mask of generated tokens) over one fresh pool."""
        texts = [training_text(self.rng, level) for _ in range(conversations)]
        encoded = [np.array(e.ids) for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        encoded.sort(key=len)
        batches: list[list[np.ndarray]] = [[]]
        for ids in encoded:
            if len(ids) * (len(batches[-1]) + 1) > self.batch_tokens and batches[-1]:
                batches.append([])
            batches[-1].append(ids)
        self.rng.shuffle(batches)
        for batch in batches:
            length = -(-max(map(len, batch)) // 32) * 32 + 1  # few distinct shapes
            ids = np.full((len(batch), length), self.pad)
            mask = np.zeros((len(batch), length), dtype=bool)
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence)] = sequence
                mask[row, : len(sequence)] = assistant_mask(sequence, *self.marks)
            yield torch.from_numpy(ids), torch.from_numpy(mask)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024), times Moonlight's 0.2·sqrt(max(out, in))."""

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix from its gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                momentum = state.setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = orthogonalise(p.grad.lerp(momentum, 0.95))
                p.mul_(1 - group["lr"] * 0.05)
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape[-2:]) ** 0.5)


def orthogonalise(g: Tensor) -> Tensor:
    """U·Vᵀ of each matrix of a stack, by five quintic Newton-Schulz steps in bf16."""
    x = g if g.ndim == 3 else g[None]
    wide = x.shape[-2] > x.shape[-1]
    x = (x.mT if wide else x).bfloat16()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return (x.mT if wide else x).float().view_as(g)


def schedule(minutes: float, step: int, settings: dict[str, float]) -> float:
    """Warm up by steps, hold, then decay linearly to zero by the clock."""
    left = (settings["minutes"] - minutes) / settings["decay_minutes"]
    return max(0.0, min(1.0, (step + 1) / settings["warmup_steps"], left))


def loss_of(model: Assistant, batch: Batch, pad: int, prompt_weight: float) -> tuple[Tensor, float]:
    """Weighted next-token loss for the gradient, and the plain mean over generated tokens, in nats."""
    ids, mask = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(ids[:, :-1])
        targets, generated = ids[:, 1:], mask[:, 1:]
        keep = generated if prompt_weight == 0 else targets != pad
        kept = keep.flatten().nonzero().squeeze(1)
        logits = model.lm_head(hidden.flatten(0, 1).index_select(0, kept))
    losses = F.cross_entropy(logits.float(), targets[keep], reduction="none")
    own = generated[keep]
    weights = torch.where(own, 1.0, prompt_weight)
    return (losses * weights).sum() / weights.sum(), float(losses.detach()[own].mean())


def main() -> None:
    """Train until the clock of `settings.toml` has run out."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--state", type=Path, required=True)
    arguments.add_argument("--start", type=Path, help="a checkpoint whose weights the run starts from")
    arguments.add_argument("--to", type=Path, help="where the run's checkpoint goes")
    arguments.add_argument("--probe", type=int, default=0, help="run so many steps, print their speed, write nothing")
    options = arguments.parse_args()
    settings = tomllib.loads((HERE / "settings.toml").read_text())
    train: dict[str, float] = settings["training"]
    torch.set_num_threads(2)
    torch.manual_seed(int(train["seed"]))
    tokenizer = Tokenizer.from_file(str(HERE / "checkpoint" / "tokenizer.json"))
    shape = Shape(**settings["model"])
    model = widen(load_checkpoint(options.start), shape).train() if options.start else Assistant(shape)
    target: Path = options.to or options.state / "checkpoint"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (target / name).exists():
            shutil.copyfile(HERE / "checkpoint" / name, target / name)
    matrices = [p for n, p in model.layers.named_parameters() if p.ndim >= 2 and "router" not in n]
    routers = [moe.router for moe in model.moe_layers()]
    chosen = {id(p) for p in matrices + routers}
    others = [p for p in model.parameters() if id(p) not in chosen]
    muon = Muon(matrices, train["muon_rate"])
    groups = [{"params": others, "rate": train["adam_rate"]}, {"params": routers, "rate": train["router_rate"]}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    step, tokens, spent = 0, 0, 0.0
    state_file = options.state / "state.pt"
    if state_file.exists() and not options.probe:
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, tokens, spent = state["step"], state["tokens"], state["spent"]
    average = copy.deepcopy(model)
    if state_file.exists() and not options.probe:
        average.load_state_dict(state.get("average", state["model"]))
    print(sum(p.numel() for p in model.parameters()) / 1e6, "M parameters", flush=True)
    stream = Stream(tokenizer, int(train["batch_tokens"]), int(train["seed"]) * 1000003 + step)
    log = target / "training_log.csv"
    if step == 0 and not options.probe:
        log.write_text("step,minutes,tokens,loss,rate,level,largest_load,smallest_load\n")
    started, last_saved, shown = time.monotonic(), time.monotonic(), []
    loads = torch.zeros(len(model.moe_layers()), model.s.n_routed_experts)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    minutes = spent
    while not stopping and minutes < train["minutes"]:
        curriculum = train["curriculum_minutes"]
        level = min(1.0, minutes / curriculum) if curriculum else 1.0
        for batch in stream.pool(level, 600):
            minutes = spent + (time.monotonic() - started) / 60
            rate = schedule(minutes, step, train)
            if rate == 0 or stopping:
                break
            model.set_quantize(minutes > train["minutes"] - train["quantized_minutes"])
            for group in muon.param_groups:
                group["lr"] = train["muon_rate"] * rate
            for group in adam.param_groups:
                group["lr"] = group["rate"] * rate
            loss, own = loss_of(model, batch, stream.pad, train["prompt_loss" if level < 1 else "prompt_loss_later"])
            muon.zero_grad()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(others + routers, 1.0)
            muon.step()
            adam.step()
            for i, moe in enumerate(model.moe_layers()):
                loads[i] += moe.load
                moe.balance(train["bias_rate"] * min(1.0, rate * 2))
            follow(average, model, train["average_rate"])
            step, tokens = step + 1, tokens + batch[0].numel()
            shown.append(own)
            if step % 50 == 0:
                share = loads / loads.mean(-1, keepdim=True)
                line = (
                    f"{step},{minutes:.2f},{tokens},{np.mean(shown):.5f},{rate:.3f},{level:.2f},"
                    f"{share.max():.3f},{share.min():.3f}"
                )
                print(line, flush=True)
                if not options.probe:
                    with log.open("a") as file:
                        file.write(line + "\n")
                loads.zero_()
                shown = []
            if step == options.probe:
                return
        ending = minutes >= train["minutes"] or rate == 0 or stopping
        if not options.probe and (ending or time.monotonic() - last_saved > 240):
            save_state(state_file, model, average, muon, adam, step, tokens, minutes)
            save_checkpoint(average, target)
            last_saved = time.monotonic()
        if rate == 0:
            break


@torch.no_grad()
def widen(narrow: Assistant, shape: Shape) -> Assistant:
    """The same function with a latent of `shape`'s size: its further rows are faint noise that nothing reads yet."""
    wide = Assistant(shape)
    latent = narrow.s.kv_lora_rank
    of_narrow = narrow.state_dict()
    for name, target in wide.state_dict().items():
        source = of_narrow[name]
        if name.endswith("kv_a_proj_with_mqa.weight"):
            noise = target[: shape.kv_lora_rank - latent]
            source = torch.cat((source[:latent], noise * 0.05, source[latent:]))
        elif name.endswith("kv_a_layernorm.weight"):
            source = torch.cat((source, source.mean().expand(shape.kv_lora_rank - latent)))
            source = source * (latent / shape.kv_lora_rank) ** 0.5  # the mean square now runs over more
        elif name.endswith("kv_b_proj.weight"):
            source = F.pad(source, (0, shape.kv_lora_rank - latent))
        target.copy_(source)
    return wide


@torch.no_grad()
def follow(average: Assistant, model: Assistant, rate: float) -> None:
    """Move the averaged weights, which are what the checkpoint stores, a step towards the current ones."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), rate)
    for mean, moe in zip(average.moe_layers(), model.moe_layers(), strict=True):
        mean.bias.lerp_(moe.bias, rate)


def save_state(
    path: Path,
    model: Assistant,
    average: Assistant,
    muon: Muon,
    adam: torch.optim.AdamW,
    step: int,
    tokens: int,
    spent: float,
) -> None:
    """Write everything that resuming needs, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    parts = {"model": model, "average": average, "muon": muon, "adam": adam}
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**states, "step": step, "tokens": tokens, "spent": spent}, partial)
    partial.replace(path)


if __name__ == "__main__":
    main()
