"""What `moedge plan` says of bundles beside what they really take here: memory at a full context, prompts and decoding.

    python benchmarks/planning.py BUNDLE ... [--device NAME] [--write]   # --write puts it into docs/planning.md

Each bundle is measured in a process of its own, so that its peak is only its own. Published figures of other engines
stand beside what the shipped profiles predict at the same bits: see PUBLISHED.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.detect import detect
from moedge.devices.profile import load_profile
from moedge.runtime.device_plan import make_plan
from moedge.runtime.engine import Engine
from moedge.runtime.manifest import read_manifest

PAGE = Path(__file__).parents[1] / "docs" / "planning.md"
PROMPT, STEPS, ROUNDS = 512, 32, 3
DEPTHS = (0, 512, 4096)


@dataclass(frozen=True)
class PublishedRate:
    """Somebody's measurement of a mixture on a device: tokens/s of decoding by llama.cpp or PowerInfer."""

    where: str
    model: str
    active: float  # weights, in billions
    bits: float  # a weight
    layers: int
    decode: float
    device: str  # the profile that is nearest


PUBLISHED = (
    PublishedRate("Raspberry Pi 5, 16 GB", "Qwen3-30B-A3B", 3.3, 2.7, 48, 8.0, "raspberry-pi-5-16gb"),
    PublishedRate("Raspberry Pi 5", "SmallThinker 4B-A0.6B", 0.6, 4.5, 32, 28.8, "raspberry-pi-5-16gb"),
    PublishedRate("Raspberry Pi 5", "SmallThinker 21B-A3B", 3.0, 4.5, 52, 6.6, "raspberry-pi-5-16gb"),
    PublishedRate("RK3588, 4 x A76", "LFM2-8B-A1B", 1.5, 4.5, 24, 23.4, "rk3588"),
    PublishedRate("RK3588, 4 x A76", "LFM2.5-8B-A1B", 1.5, 4.5, 24, 18.0, "rk3588"),
    PublishedRate("RK3588, 4 x A76", "ERNIE-4.5-21B-A3B", 3.0, 4.5, 28, 7.4, "rk3588"),
    PublishedRate("RK3588", "Qwen3-30B-A3B", 3.3, 4.5, 48, 9.1, "rk3588"),
    PublishedRate("Snapdragon 8 Elite phone", "SmallThinker 21B-A3B", 3.0, 4.5, 52, 23.0, "snapdragon-8-elite"),
    PublishedRate("Snapdragon 8 Elite phone", "Qwen3-30B-A3B", 3.3, 4.5, 48, 20.2, "snapdragon-8-elite"),
    PublishedRate("EPYC 4344P, 8 cores", "Qwen3-30B-A3B", 3.3, 4.9, 48, 24.0, "x86-64-avx512-vnni"),
    PublishedRate("i7-8700", "Qwen3-30B-A3B", 3.3, 4.9, 48, 10.6, "x86-64-avx2"),
)


def measure(bundle: str, device: str) -> dict[str, float | dict[str, float]]:
    """In a process of its own: prompt and decode rates, medians, then the most memory with a full context."""
    profile = load_profile(device)
    engine = Engine.load(bundle, profile, check_hashes=False, allow_slow=True, allow_low_memory=True)
    rng, vocab, context = random.Random(1), engine.manifest.model.vocab_size, engine.manifest.model.context_length

    def draw(count: int) -> list[int]:
        return [rng.randrange(vocab) for _ in range(count)]

    session, prompts = engine.session(), list[float]()
    for _ in range(ROUNDS + 1):
        session.rollback(0)
        begun = time.perf_counter()
        session.prefill(draw(PROMPT))
        prompts.append(PROMPT / (time.perf_counter() - begun))
    decode = {}
    for depth in [each for each in DEPTHS if each + STEPS * (ROUNDS + 1) <= context]:
        session.rollback(min(depth, session.length))
        if depth > session.length:
            session.prefill(draw(depth - session.length))
        rates = []
        for _ in range(ROUNDS + 1):
            begun = time.perf_counter()
            for token in draw(STEPS):
                session.decode(token)
            rates.append(STEPS / (time.perf_counter() - begun))
        decode[str(depth)] = statistics.median(rates[1:])
    session.prefill(draw(context - session.length - 1))
    session.decode(0)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "prompt": statistics.median(prompts[1:]),
        "decode": decode,
        "peak": 1024 * int(lines["VmHWM"].split()[0]),
    }


def rows(bundles: Sequence[Path], device: str) -> Iterator[str]:
    """Of the table: planned, measured, and how many times the one is the other."""
    yield "| bundle | plan | memory, GB | prompt of 512, tokens/s | decode at 0 | at 512 | at 4,096 |"
    yield "|---|---|---|---|---|---|---|"
    profile = load_profile(device)
    for bundle in bundles:
        words = [sys.executable, __file__, str(bundle), "--device", device, "--child"]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        engine_plan = make_plan(read_manifest(bundle), profile)
        if engine_plan is None:
            continue
        cells = [_pair(engine_plan.need.total / 1e9, found["peak"] / 1e9, "{:.2f}")]
        cells.append(_pair(engine_plan.prompt_tokens_per_second, found["prompt"], "{:.0f}"))
        for depth in DEPTHS:
            known = found["decode"].get(str(depth))
            cells.append("–" if known is None else _pair(engine_plan.decode_by_depth[depth], known, "{:.0f}"))
        yield f"| {name_of(bundle)} | {engine_plan.expert_plan}, {engine_plan.scheme} | {' | '.join(cells)} |"


def name_of(bundle: Path) -> str:
    """The shape's name, where the bundle lies in a folder of it."""
    return bundle.resolve().parent.name.rpartition("-")[0] or bundle.resolve().name


def _pair(planned: float, measured: float, spelt: str) -> str:
    return f"{spelt.format(planned)}, {spelt.format(measured)}: {planned / measured:.2f}"


def published() -> Iterator[str]:
    """The shipped profiles' rates against what was published, at the bits that were published."""
    yield "| device | model, bits a weight | published, tokens/s | planned | profile |"
    yield "|---|---|---|---|---|"
    for each in PUBLISHED:
        rates = load_profile(each.device).rates
        seconds = (
            each.active * 1e9 * each.bits / 8 / rates.weights_bytes_per_s + each.layers * rates.layer_s + rates.step_s
        )
        planned = 1 / seconds
        ratio = f"{planned:.1f}: {planned / each.decode:.2f}"
        yield f"| {each.where} | {each.model}, {each.bits} | {each.decode} | {ratio} | {each.device} |"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(str(given.bundles[0]), given.device)))
        return
    machine, profile = detect(), load_profile(given.device)
    told = f"{machine.cpu}, {machine.cores} cores, {time.strftime('%Y-%m-%d')}, profile {profile.name}: planned, "
    here = "\n".join([f"{told}measured, and the first over the second.", "", *rows(given.bundles, given.device)])
    print(here)
    there = "\n".join(published())
    print(there)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        for name, table in (("here", here), ("published", there)):
            begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
            before, rest = page.split(begin)
            page = f"{before}{begin}{table}\n{end}{rest.split(end)[1]}"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
