"""What a bundle that has just been made is worth: the short form of an evaluation, for its report."""

from dataclasses import dataclass
from pathlib import Path

from moedge.devices.memory import detect_memory
from moedge.devices.profile import load_profile
from moedge.export.evaluation.logits import compare_logits, weigh
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.quant.fidelity import SKIPPED, summarize
from moedge.runtime.engine import Engine
from moedge.runtime.kernel_probe import prove_fast_kernel
from moedge.runtime.manifest import Manifest
from moedge.runtime.memory_need import check_memory
from moedge.runtime.program import Program


@dataclass(frozen=True)
class Judgement:
    """A bundle against its checkpoint on some windows that nothing was calibrated on; see `Fidelity`."""

    kl_mean: float
    kl_se: float | None
    kl_p99: float
    top1: float
    perplexity: float
    reference_perplexity: float
    bits_per_weight: float  # in the files, scales and zero points included
    positions: int


def judge(folder: Path, manifest: Manifest, stream: StreamedModel, first: int) -> Judgement | None:
    """Run a bundle, which may lack its report and manifest yet, over the windows from `first` on of the exact model.

    That is to be at its last layer. None if windows, or the bundle's context, are too short to be judged by.
    MoedgeError if the engine would refuse the bundle here.
    """
    if min(manifest.model.context_length, stream.windows.shape[1]) < SKIPPED + 2:
        return None
    profile = load_profile("auto")
    check_memory(manifest, profile, detect_memory(), 1, allow_low_memory=False)
    prove_fast_kernel(folder, manifest, allow_slow=False)
    engine = Engine(folder, manifest, profile, Program.load(folder, manifest, profile))
    divergences = compare_logits(engine, stream, first=first)
    figures, (on_disk, _) = summarize(divergences), weigh(manifest)
    return Judgement(
        kl_mean=figures.kl_mean,
        kl_se=figures.kl_se,
        kl_p99=figures.kl_p99,
        top1=figures.top1,
        perplexity=figures.perplexity,
        reference_perplexity=figures.reference_perplexity,
        bits_per_weight=on_disk,
        positions=sum(len(each.kl) for each in divergences),
    )
