"""The steps of preparing.py, each run as a process: `python -m peers.steps ORDER SHAPE CONTEXT SCHEME ...`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers.preparing import TOKENS
from peers.shapes import SHAPES, PeerShape


def refer(shape: PeerShape, _context: int, _scheme: str, path: str, threads: str) -> None:
    """The exact model's answers to random tokens."""
    import torch

    from peers.torch_model import refer as ask
    from peers.torch_model import torch_model
    from peers.weights import weights

    torch.set_num_threads(int(threads))
    ids = np.random.default_rng(0).integers(2, shape.config["vocab_size"], TOKENS)
    found = ask(torch_model(shape), shape, ids)
    partial = Path(f"{path}.partial.npz")
    routing = np.array([found.used, found.repeated, *found.repeated_by_layer])
    parameters = sum(int(np.prod(weight.shape)) for weight in weights(shape))
    np.savez(partial, ids=ids, logits=found.logits, routing=routing, parameters=parameters)
    partial.rename(path)


def gguf(shape: PeerShape, _context: int, _scheme: str, path: str) -> None:
    """In bf16."""
    from peers.gguf_file import write_gguf

    Path(path).unlink(missing_ok=True)
    write_gguf(Path(path), shape)


def quantize(_shape: PeerShape, _context: int, _scheme: str, source: str, path: str, threads: str) -> None:
    """llama.cpp's own; the name of `path` is that of the type."""
    from fidelity.peer_llama import quantize as convert

    convert(Path(source), Path(path), Path(path).stem, None, int(threads))


def checkpoint(shape: PeerShape, _context: int, _scheme: str, folder: str) -> None:
    """In bf16."""
    from peers.checkpoint import write_checkpoint

    write_checkpoint(Path(folder), shape)


def export(_shape: PeerShape, context: int, scheme: str, source: str, bundle: str) -> None:
    """moedge's, rounded without a text as llama.cpp's are; the plan stands at the beginning of the bundle's name."""
    plan = Path(bundle).name.partition("-")[0]
    chosen = ["--scheme", scheme, "--experts", plan, "--context", str(context), "--calibration", "none", "--no-eval"]
    words = ["export", source, "--output", bundle, *chosen, "--force"]
    subprocess.run([sys.executable, "-m", "moedge.runtime", *words], check=True)


def build(_shape: PeerShape, _context: int, _scheme: str, source: str, folder: str) -> None:
    """onnxruntime-genai's own builder, int4 for the CPU as it is by default, offline."""
    partial = f"{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    builder = "onnxruntime_genai.models.builder"
    words = ["-i", source, "-o", partial, "-p", "int4", "-e", "cpu", "-c", f"{partial}-cache"]
    subprocess.run([sys.executable, "-m", builder, *words], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    shutil.rmtree(f"{partial}-cache", ignore_errors=True)
    Path(partial).rename(folder)


ORDERS: dict[str, Callable[..., None]] = {
    step.__name__: step for step in (refer, gguf, quantize, checkpoint, export, build)
}

if __name__ == "__main__":
    order, name, context, scheme, *rest = sys.argv[1:]
    ORDERS[order](SHAPES[name], int(context), scheme, *rest)
