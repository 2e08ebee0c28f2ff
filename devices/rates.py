"""How fast a device computes, as the planner needs it: measured by `moedge profile`, or estimated from its hardware.

The shares below are those of a 2-core x86-64 server (docs/planning.md); elsewhere they are assumed until somebody
measures. What is made of rates is forecast.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moedge.devices.cores import Cluster

# By the best instructions that a core has: products of int8 that it adds up a cycle at most, and bytes of weights in
# blocks that it multiplies with a single token's activations.
A_CYCLE = {
    "avx512_vnni": (128, 6.5),  # two instructions of 64
    "i8mm": (64, 3.0),  # two of 32, which a single row cannot use
    "avx_vnni": (32, 3.0),  # one of 32, or two halves of it
    "avx2": (32, 2.5),  # a pair of instructions for 32, two of which start a cycle
    "asimddp": (32, 2.5),  # two of 16
    "sse4_1": (16, 0.8),
    "asimd": (8, 0.8),
}
LEAST_A_CYCLE = (2, 0.3)
# Cores whose units are half as wide or fewer, as their optimization guides say.
NARROW = ("Cortex-A53", "Cortex-A55", "Cortex-A510", "Cortex-A520")
PROMPT_SHARE = 0.42  # of those products, in prompts
ARM_PROMPT_SHARE = 0.16  # the only published figure, of another engine on a Raspberry Pi 5, is 0.12
MEMORY_SHARE = 0.85  # of what plain reading reaches, in the products of a single token
CACHE_SHARE = 0.7  # of what weights are read at
ATTENTION_SHARE, PROMPT_ATTENTION_SHARE = 0.15, 0.55  # of the products in prompts
LAYER_CYCLES, STEP_CYCLES = 140_000, 230_000  # of all else
FUSED_DECODE, FUSED_PROMPT = 0.55, 0.4  # ONNX Runtime's kernels against moedge's own
USUAL_MHZ = 2000  # where nothing tells


@dataclass(frozen=True)
class Rates:
    """Of all threads together. MAC: one product that is added up."""

    weights_bytes_per_s: float  # of quantized weights that are multiplied with one token's activations
    prompt_macs_per_s: float  # of weights with a chunk of a prompt
    cache_bytes_per_s: float  # of keys and values that one token looks at
    attention_macs_per_s: float  # the same work as products, whichever takes longer
    prompt_attention_macs_per_s: float
    layer_s: float  # of a step, beside what is multiplied: norms, router, operators as such
    step_s: float  # of a step, beside all layers: sampling, Python
    fused_weights_bytes_per_s: float  # in the fused plan
    fused_prompt_macs_per_s: float


def estimate_rates(
    clusters: Sequence[Cluster],
    isa: Sequence[str],
    memory_bytes_per_s: float,
    prefill_threads: int,
    decode_threads: int,
) -> Rates:
    """From clocks, widths and memory alone; the fastest cores work first."""
    macs, row_bytes = next((most for flag, most in A_CYCLE.items() if flag in isa), LEAST_A_CYCLE)
    weights = min(MEMORY_SHARE * memory_bytes_per_s, row_bytes * _cycles(clusters, decode_threads))
    prompt = (ARM_PROMPT_SHARE if "asimd" in isa else PROMPT_SHARE) * macs * _cycles(clusters, prefill_threads)
    hertz = 1e6 * max((cluster.mhz or USUAL_MHZ for cluster in clusters), default=USUAL_MHZ)
    return Rates(
        weights_bytes_per_s=weights,
        prompt_macs_per_s=prompt,
        cache_bytes_per_s=CACHE_SHARE * weights,
        attention_macs_per_s=ATTENTION_SHARE * prompt,
        prompt_attention_macs_per_s=PROMPT_ATTENTION_SHARE * prompt,
        layer_s=LAYER_CYCLES / hertz,
        step_s=STEP_CYCLES / hertz,
        fused_weights_bytes_per_s=FUSED_DECODE * weights,
        fused_prompt_macs_per_s=FUSED_PROMPT * prompt,
    )


def _cycles(clusters: Sequence[Cluster], threads: int) -> float:
    """A second, of so many cores together, those of narrow ones by half."""
    total, left = 0.0, threads
    for cluster in clusters:
        used = min(left, cluster.count)
        total += used * 1e6 * (cluster.mhz or USUAL_MHZ) * (0.5 if cluster.core in NARROW else 1)
        left -= used
    return total + left * 1e6 * USUAL_MHZ
