"""What an export has of a calibration: a rounding, factors of channels, and a call before each layer; or none of it.

And what the exact model makes of a text that calibration does not see, for whoever judges what became of the export.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from moedge.export.calibration.calibrated import Calibrated
from moedge.export.calibration.calibrator import Calibrator
from moedge.export.calibration.statistics import FEW
from moedge.export.calibration.texts import CalibrationText, held_back
from moedge.export.calibration.windows import HELD, WINDOW, WINDOWS, cut_windows
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.channels import Channels
from moedge.export.model.config import ModelConfig
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.export.tokenizer.talking import Talking
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding

# Each is written to the disk as fp32 once, and multiplied with some thousand tokens: 100 B are 400 GB and hours.
MOST_PARAMETERS = 100_000_000_000


@dataclass(frozen=True)
class BesideExport:
    """How matrices are rounded, what their channels are multiplied by, and what makes a layer's known.

    `exact` is to be opened when all layers are done: the exact model at its last layer, and the first of its windows
    that nothing was calibrated on, which all that follow are like.
    """

    rounding: Rounding
    exact: Callable[[], AbstractContextManager[tuple[StreamedModel, int]]]
    channels: Channels = field(default_factory=Channels)
    prepare: Callable[[int], None] = lambda _: None
    note: Callable[[list[str]], None] = lambda _: None  # to be called then, too: adds what there was little text of


@contextmanager
def calibrate_beside(
    text: CalibrationText | None,
    otherwise: Rounding,
    schemes: SchemePlan,
    source: Checkpoint,
    model: ModelConfig,
    talking: Talking,
    folder: Path,
    judged: bool = False,
) -> Iterator[BesideExport]:
    """The calibration by a text, with temporary files in `folder`. None: `otherwise`.

    `judged`: `exact` will be opened.
    """

    def cut(some: CalibrationText, most: int = WINDOWS, window: int = WINDOW) -> NDArray[np.int64]:
        texts = some.render(talking.chat_template)
        tokenizer = Tokenizer.from_str(talking.tokenizer)
        return cut_windows(tokenizer, texts, model.vocab_size, talking.bos_token_id, most, window)

    if text is None:
        yield BesideExport(otherwise, lambda: _run(StreamedModel(source, model, cut(held_back(), HELD), folder)))
        return
    windows = cut(text)
    held = cut(held_back(), HELD, windows.shape[1]) if judged else None
    rounding = Calibrated(text.rounding)
    with Calibrator(source, model, windows, schemes, rounding, folder, held) as calibrator:

        def note(notes: list[str]) -> None:
            few = {layer: int(np.sum(tokens < FEW)) for layer, tokens in calibrator.coverage.items()}
            if total := sum(few.values()):
                notes.append(
                    f"calibration: {total} experts in {sum(map(bool, few.values()))} layers were chosen by fewer than "
                    f"{FEW} of {windows.size} tokens and were searched by all tokens' statistics"
                )

        def exact() -> AbstractContextManager[tuple[StreamedModel, int]]:
            return nullcontext((calibrator.stream, len(windows)))

        yield BesideExport(rounding, exact, calibrator.channels, calibrator.prepare, note)


@contextmanager
def _run(stream: StreamedModel) -> Iterator[tuple[StreamedModel, int]]:
    with stream:
        for _ in range(stream.model.num_hidden_layers):
            stream.run_layer()
        yield stream, 0
