"""What the samples of a shape come to: rates with their spread, ratios of rounds in turn, and the issue's targets."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from peers.measuring import CLOCK, Samples
from peers.shapes import PeerShape


@dataclass(frozen=True)
class Figure:
    """One line of the results: an engine's rate in tokens/s, and how many times as fast moedge was beside it.

    The ratio is the median of rounds in turn, with the least and the most; of moedge itself it is 1.
    """

    shape: str
    engine: str
    figure: str
    median: float
    low: float
    high: float
    rounds: int
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class EngineFacts:
    """What an engine costs and loses: bits a weight on disk, nats a token, error as a share of the logits' spread.

    `share` is that of the memory's bandwidth which a step at depth 0 takes; NaN where nobody knows its bytes.
    """

    shape: str
    engine: str
    bits: float
    kl: float
    error: float
    top1: float
    load_s: float
    anonymous: int
    file_backed: int
    share: float
    threads: int
    date: str
    commit: str


def figures(shape: str, samples: Samples) -> list[Figure]:
    """A figure an engine and kind; of moedge, which is in every group, over all of them."""
    found = []
    kinds = dict.fromkeys((engine, figure) for _, engine, figure in samples.rates)
    for engine, figure in kinds:
        own = {g: rates for (g, e, f), rates in samples.rates.items() if (e, f) == (engine, figure)}
        rates = [rate for each in own.values() for rate in each]
        ratios = [
            ours / theirs
            for group, each in own.items()
            for ours, theirs in zip(samples.rates.get((group, CLOCK, figure), []), each, strict=False)
        ] or [float("nan")]
        spread = (statistics.median(rates), min(rates), max(rates), len(rates))
        beside = (statistics.median(ratios), min(ratios), max(ratios))
        found.append(Figure(shape, engine, figure, *spread, *beside))
    return found


@dataclass(frozen=True)
class Verdict:
    """One target, and what came of it; `reached` is NaN where it was not measured."""

    shape: str
    what: str
    target: float
    reached: float

    @property
    def words(self) -> str:
        """met, missed or not measured."""
        if self.reached != self.reached:
            return "not measured"
        return "met" if self.reached >= self.target else "missed"


def judge(shape: PeerShape, found: Sequence[Figure], facts: Sequence[EngineFacts]) -> list[Verdict]:
    """The targets of this shape, from its rows of both kinds; rows of other shapes do not matter."""
    found = [each for each in found if each.shape == shape.name]
    by = {(each.engine, each.figure): each for each in found}
    shares = [each.share for each in facts if (each.shape, each.engine) == (shape.name, CLOCK)]

    def ratio(engine: str, figure: str) -> float:
        return by[engine, figure].ratio if (engine, figure) in by else float("nan")

    def within(one: str, other: str) -> float:
        pair = (by.get((CLOCK, one)), by.get((CLOCK, other)))
        return pair[0].median / pair[1].median if pair[0] and pair[1] else float("nan")

    narrow, q4 = shape.target == "narrow", "llama.cpp:Q4_0"
    verdicts = [
        ("prompt 512 against llama.cpp Q4_0", 3.5 if narrow else 3.0, ratio(q4, "prompt 512")),
        ("prompt 2,048 against llama.cpp Q4_0", 3.0, ratio(q4, "prompt 2048")),
        ("prompt 8,192 against llama.cpp Q4_0", 3.0, ratio(q4, "prompt 8192")),
        ("prompt 8,192 against prompt 512", 0.7, within("prompt 8192", "prompt 512")),
        ("decode at 0 against llama.cpp Q4_0", 1.5 if narrow else 1.4, ratio(q4, "decode at 0")),
        ("decode at 512 against llama.cpp Q4_0", 1.5 if narrow else 1.4, ratio(q4, "decode at 512")),
        ("decode at 4,096 against llama.cpp Q4_0", 1.3, ratio(q4, "decode at 4096")),
        ("decode, share of the memory's bandwidth", 0.8 if narrow else 0.9, *(shares or [float("nan")])),
    ]
    if "kv_lora_rank" in shape.config:
        verdicts.append(("latent: prompt 4,096 against prompt 512", 0.85, within("prompt 4096", "prompt 512")))
    for each in found:
        if each.engine.startswith(("genai", "transformers")):
            verdicts.append((f"{each.figure} against {each.engine}", 1.0, each.ratio))
    return [Verdict(shape.name, *verdict) for verdict in verdicts]


Row = Figure | EngineFacts


def write_csv(path: Path, kind: type[Row], rows: Iterable[Row], replaced: Iterable[str]) -> None:
    """Write rows; those that the file has of other shapes than the `replaced` ones stay."""
    names = [each.name for each in fields(kind)]
    gone = set(replaced)
    kept = [astuple(each) for each in read_csv(path, kind) if each.shape not in gone] if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(sorted([*kept, *(astuple(each) for each in rows)], key=lambda row: row[0]))


def read_csv(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file that `write_csv` wrote."""
    types = {each.name: each.type for each in fields(kind)}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    convert = {str: str, float: float, int: int}
    return [kind(**{name: convert[types[name]](text) for name, text in row.items()}) for row in rows]  # type: ignore[index]


def as_json(rows: Iterable[Row | Verdict]) -> list[dict[str, object]]:
    """Plain data; what was not measured is null, for which JSON has no number."""
    return [{name: value if value == value else None for name, value in asdict(each).items()} for each in rows]
