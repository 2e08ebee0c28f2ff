"""Which experts a bundle's text goes to: how often each of a layer's is chosen, as the kernels count it."""

from dataclasses import dataclass

from moedge.runtime.engine import Engine
from moedge.runtime.sampling import SamplingParams

ANSWER = 32  # tokens that follow the text
# Of several kinds, as experts divide the work between them.
TEXT = """The harbour lay still under a thin fog, and the ferry was late again. "Half past nine," said the pilot, "and
not a light to be seen." Three gulls sat on the rail.

def moving_average(values, width):
    total = sum(values[:width])
    for old, new in zip(values, values[width:]):
        yield total / width
        total += new - old

Das Licht braucht von der Sonne zur Erde etwas mehr als acht Minuten. La lumière met huit minutes pour arriver.
Water boils at 100 °C at sea level; at 3,000 m it boils at about 90 °C. 17 × 23 = 391, and 391 / 17 = 23.
Q: Which planet has the shortest year? A: Mercury, with 88 days.
"""


@dataclass(frozen=True)
class ExpertUsage:
    """Times that each expert was chosen, [layers of experts][experts], and the layers' numbers."""

    layers: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    tokens: int

    @property
    def shares_used(self) -> tuple[float, ...]:
        """Of each layer the share of its experts that were chosen at all."""
        return tuple(sum(count > 0 for count in layer) / len(layer) for layer in self.counts)


def measure_usage(engine: Engine, most_tokens: int) -> ExpertUsage | None:
    """Of a text and what the model says after it; None where nothing counts: other plans, models without experts."""
    counter = engine.program.expert_counts
    if counter is None:
        return None
    before = counter.read()
    session = engine.session()
    size = engine.manifest.model.vocab_size
    ids = [each for each in engine.tokenizer.encode(TEXT) if each < size]
    ids = ids[: max(1, min(most_tokens, session.capacity - ANSWER - 1))]
    params = SamplingParams(temperature=0.0, max_tokens=min(ANSWER, most_tokens), ignore_eos=True)
    for _ in engine.generate(ids, params, session):
        pass
    after = counter.read()
    known = dict(zip(before.layers, before.counts, strict=True))  # of layers that had run already
    rows = zip(after.layers, after.counts, strict=True)
    counts = tuple(tuple((row - known[layer] if layer in known else row).tolist()) for layer, row in rows)
    return ExpertUsage(after.layers, counts, session.length)
