"""What an export has of a calibration: a rounding, factors of channels, and a call before each layer; or none of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from moedge.export.calibration.calibrated import Calibrated
from moedge.export.calibration.calibrator import Calibrator
from moedge.export.calibration.statistics import FEW
from moedge.export.calibration.texts import CalibrationText
from moedge.export.calibration.windows import cut_windows
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.channels import Channels
from moedge.export.model.config import ModelConfig
from moedge.export.tokenizer.talking import Talking
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding

# Each is written to the disk as fp32 once, and multiplied with some thousand tokens: 100 B are 400 GB and hours.
MOST_PARAMETERS = 100_000_000_000


@dataclass(frozen=True)
class BesideExport:
    """How matrices are rounded, what their channels are multiplied by, and what makes a layer's known."""

    rounding: Rounding
    channels: Channels = field(default_factory=Channels)
    prepare: Callable[[int], None] = lambda _: None


@contextmanager
def calibrate_beside(
    text: CalibrationText | None,
    otherwise: Rounding,
    schemes: SchemePlan,
    source: Checkpoint,
    model: ModelConfig,
    talking: Talking,
    notes: list[str],
    folder: Path,
) -> Iterator[BesideExport]:
    """The calibration by a text, with temporary files in `folder`; notes what it saw little of. None: `otherwise`."""
    if text is None:
        yield BesideExport(otherwise)
        return
    tokenizer = Tokenizer.from_str(talking.tokenizer)
    texts = text.render(talking.chat_template)
    windows = cut_windows(tokenizer, texts, model.vocab_size, talking.bos_token_id)
    rounding = Calibrated(text.rounding, by_gptq=True)
    with Calibrator(source, model, windows, schemes, rounding, folder) as calibrator:
        yield BesideExport(rounding, calibrator.channels, calibrator.prepare)
    few = {layer: int(np.sum(tokens < FEW)) for layer, tokens in calibrator.coverage.items()}
    if total := sum(few.values()):
        notes.append(
            f"calibration: {total} experts in {sum(map(bool, few.values()))} layers were chosen by fewer than {FEW} of "
            f"{windows.size} tokens and were searched by all tokens' statistics"
        )
