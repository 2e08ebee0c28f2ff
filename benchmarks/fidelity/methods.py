"""What can be measured, by name, for one mixture: logits of the evaluation windows, and what the weights cost.

moedge:SCHEME            exported by `moedge export --scheme SCHEME`, own text, engine and kernels; SCHEME+: with the
                         calibration windows as --calibration (fp32: how far engines differ by themselves)
llama.cpp:TYPE           its quantizer, engine and kernels; TYPE+: with an importance matrix of the same windows
ggml:TYPE                its formats as they would be where rows fit, weights only; TYPE+ likewise
onnxruntime:NAME-BLOCK   its quantizers rtn, k_quant and hqq, weights only
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fidelity import bundles, ggml_blocks, ort_quantizers
from fidelity.forward import logits_of
from fidelity.gguf_file import stored
from fidelity.model import Array, Model
from fidelity.moments import load_moments
from fidelity.workplace import Workplace

LLAMA_TYPES = ("F32", "Q8_0", "Q4_0", "Q4_K_S", "Q4_K_M", "IQ4_XS")
DEFAULT = (
    *(f"moedge:{name}+" for name in ("fast", "balanced", "faithful")),
    *("moedge:balanced", "moedge:int4", "moedge:int8"),
    *(f"llama.cpp:{name}{plus}" for name in LLAMA_TYPES[2:] for plus in ("", "+")),
    *(f"ggml:{name}{plus}" for name in ggml_blocks.MIXTURES for plus in ("", "+")),
    *(f"onnxruntime:{name}-32" for name in ort_quantizers.ALGORITHMS),
)
THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Run:
    """One method at work: logits [tokens, vocab] window by window, and its cost."""

    logits: Iterator[Array]
    tensor_bytes: float  # weights, scales and zero points, wherever they would be stored
    file_bytes: int | None  # None: no file was made
    note: str


def parse(method: str) -> tuple[str, str, bool]:
    """Engine, name and whether it ends with +; ValueError for what is no method."""
    engine, _, name = method.partition(":")
    weighed, name = name.endswith("+"), name.removesuffix("+")
    match engine:
        case "moedge" if name:
            return engine, name, weighed
        case "llama.cpp" if name in LLAMA_TYPES:
            return engine, name, weighed
        case "ggml" if name in ggml_blocks.MIXTURES:
            return engine, name, weighed
        case "onnxruntime" if re.fullmatch(f"({'|'.join(ort_quantizers.ALGORITHMS)})-[0-9]+", name) and not weighed:
            return engine, name, weighed
    raise ValueError(f"no method {method}: say moedge:SCHEME, llama.cpp:TYPE, ggml:TYPE or onnxruntime:NAME-BLOCK")


def start(place: Workplace, mixture: str, method: str) -> Run:
    """Quantize, and be ready to score; ValueError for what is no method."""
    engine, name, weighed = parse(method)
    match engine:
        case "moedge":
            return start_bundle(place, mixture, name, weighed)
        case "llama.cpp":
            return start_llama(place, mixture, name, weighed)
        case "ggml":
            model = place.model(mixture)
            moments = load_moments(place.of(mixture) / "moments.safetensors") if weighed else None
            ggml = ggml_blocks.Ggml(ggml_blocks.library())
            made = ggml_blocks.rounded_matrices(ggml, model, name, moments)
            return start_rounded(model, made, place.evaluation(), "weights only, as if rows were multiples of 256")
        case _:
            model, (algorithm, _, block) = place.model(mixture), name.partition("-")
            made = ort_quantizers.rounded_matrices(model, algorithm, int(block))
            return start_rounded(model, made, place.evaluation(), "weights only")


def start_bundle(place: Workplace, mixture: str, scheme: str, calibrated: bool) -> Run:
    """moedge's own."""
    bundle = place.of(mixture) / f"bundle-{scheme}{'+' if calibrated else ''}"
    bundles.export(place.of(mixture) / "checkpoint", bundle, scheme, place.calibration_text if calibrated else None)
    logits = bundles.logits_of(bundle, place.evaluation())
    return Run(logits, bundles.tensor_bytes(bundle), bundles.file_bytes(bundle), "own kernels")


def start_llama(place: Workplace, mixture: str, name: str, weighed: bool) -> Run:
    """llama.cpp's own."""
    from fidelity import peer_llama

    path = source = place.of(mixture) / "f32.gguf"
    if name != "F32":
        path = place.of(mixture) / f"{name}{'+' if weighed else ''}.gguf"
        moments = load_moments(place.of(mixture) / "moments.safetensors") if weighed else None
        peer_llama.quantize(source, path, name, moments, THREADS)
    kept = stored(path)
    forms = sorted(kept.weights_by_format.items(), key=lambda item: -item[1])
    total = sum(kept.weights_by_format.values())
    note = "own kernels; " + ", ".join(f"{form} {count / total:.0%}" for form, count in forms if count > total / 200)
    return Run(peer_llama.logits_of(path, place.evaluation(), THREADS), kept.tensor_bytes, path.stat().st_size, note)


def start_rounded(model: Model, made: Iterable[tuple[str, Array, float]], ids: np.ndarray, note: str) -> Run:
    """The reference's own forward pass over other weights; what was not rounded costs 32 bits."""
    tensors, cost = dict(model.tensors), dict.fromkeys(model.tensors, 32.0)
    for name, weights, bits in made:
        tensors[name], cost[name] = weights, bits
    size = sum(tensor.size * cost[name] / 8 for name, tensor in tensors.items())
    return Run(logits_of(Model(model.shape, tensors), ids), size, None, note)
