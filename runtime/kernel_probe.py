"""Which of QMoE's kernels this machine takes, found out at load: by rule where a reason is known, then by a run.

moedge's own kernels are no matter of this file: their library checks itself when program.py opens it.

The fast kernel of integers works on int8 activations and so differs from exact arithmetic by about 1 %. The fallback,
which dequantizes all experts at every call and is an order of magnitude slower, agrees to 1e-5. Four-bit floats have
one kernel, which is exact and reads them as they lie. docs/graph.md has the probe.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import PROBE_NAME, ExpertKernel, Manifest

FIRST_FAST_VERSION = (1, 31)
FIRST_WITH_FLOATS = (1, 32)  # the first that was seen to run four-bit floats on a CPU
FLOAT_CODES = ("mxfp4", "nvfp4")
OVERRIDE = "ORT_QMOE_CPU_QNBIT_GEMM"
EXACT_BELOW = 1e-4  # the dequantizing fallback ran
WRONG_ABOVE = 0.05  # no kernel that works is this far off
FLOATS_WRONG_ABOVE = 0.01  # nor one of four-bit floats with its fp32 activations


def prove_fast_kernel(folder: Path, manifest: Manifest, allow_slow: bool = False) -> None:
    """Return if the bundle has no QMoE nodes or the fast kernel runs them.

    MoedgeError with the reason if it would not; with `allow_slow` a warning on stderr instead. Results that are wrong
    on this machine are an error always.
    """
    kernel = manifest.experts
    if kernel.plan != "fused":
        return
    _refuse_old(manifest)
    integers = {}
    for name, difference in run_probe(folder / PROBE_NAME).items():
        floats = (name or kernel.codes).startswith(FLOAT_CODES)
        if not difference <= (FLOATS_WRONG_ABOVE if floats else WRONG_ABOVE):  # NaN is wrong too
            raise MoedgeError(
                f"the expert kernel of onnxruntime {onnxruntime.__version__} computes wrong results on this CPU (off "
                f"by {difference:.1%}): install another version of onnxruntime, or export with `--experts if`."
            )
        if not floats:
            integers[name or f"{kernel.bits}-bit experts in blocks of {kernel.block_size}"] = difference
    reason = _find_reason(manifest, integers)
    if reason is None:
        return
    if not allow_slow:
        raise MoedgeError(
            f"{reason}, so every step would dequantize all experts, ten times slower or more: "
            "change that, or pass --allow-slow."
        )
    print(f"warning: {reason}; answers will be slow.", file=sys.stderr)


def _refuse_old(manifest: Manifest) -> None:
    """MoedgeError if this onnxruntime does not run four-bit floats and there are some."""
    kinds = [group.scheme for group in manifest.tensors if group.read_as_it_lies]
    if kinds and _release(onnxruntime.__version__) < FIRST_WITH_FLOATS:
        first = ".".join(map(str, FIRST_WITH_FLOATS))
        raise MoedgeError(
            f"onnxruntime {onnxruntime.__version__} does not run experts in {kinds[0]}: install {first} or later, "
            "or export with `--group routed-experts=int4`."
        )


def _find_reason(manifest: Manifest, integers: Mapping[str, float]) -> str | None:
    """Why integers would not have the fast kernel, by rule or by what the probe found for each scheme of them."""
    if not integers:
        return None
    version = onnxruntime.__version__
    reason = known_reason(manifest.experts, manifest.model.hidden_size, version, dict(os.environ))
    slow = next((which for which, difference in integers.items() if difference < EXACT_BELOW), None)
    if reason is None and slow is not None:
        reason = f"onnxruntime {version} has no fast kernel for {slow} on this CPU"
    return reason


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def known_reason(experts: ExpertKernel, hidden_size: int, version: str, environ: dict[str, str]) -> str | None:
    """Why the fast kernel cannot run, if a rule says so; None leaves it to the probe."""
    if _release(version) < FIRST_FAST_VERSION:
        return f"onnxruntime {version} has no fast expert kernel (1.31 is the first that has)"
    if experts.bits not in (4, 8):
        return f"the experts have {experts.bits} bits and the fast kernel reads 4 or 8"
    if experts.block_size == 0:
        return "the experts have one scale a row and the fast kernel needs blocks"
    if hidden_size % experts.block_size:
        return f"blocks of {experts.block_size} do not divide the hidden size {hidden_size}"
    if environ.get(OVERRIDE, "").lower() in ("0", "fp32"):
        return f"the environment variable {OVERRIDE}={environ[OVERRIDE]} turns the fast expert kernel off"
    return None


def run_probe(path: Path) -> dict[str, float]:
    """The largest difference between a kernel's output and the exact one, relative to the largest exact value.

    By scheme; that of the first, which the manifest tells, has no name.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # a probe has no inputs: optimization could fold it into a constant by another path than a model's node takes
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {}), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise MoedgeError(f"{path} does not run ({error}): export the bundle again.") from error
    schemes = [name.removeprefix("actual").removeprefix(".") for name in names if name.startswith("actual")]
    pairs = {scheme: f".{scheme}" if scheme else "" for scheme in schemes}
    return {s: relative_difference(found[f"actual{end}"], found[f"exact{end}"]) for s, end in pairs.items()}


def relative_difference(actual: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """max |actual - exact| / max |exact|."""
    return float(np.abs(actual - exact).max() / np.abs(exact).max())
