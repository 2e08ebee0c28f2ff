"""Bundles that were damaged, and bundles of somebody who can make hashes: by the thousand."""

import random
from concurrent.futures import ThreadPoolExecutor

from bundle_mutations import copy_bundle
from mutated_runs import outcomes, try_mutations
from served import percentile
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime.integrity import open_bundle

FLIPS = 1000
SMALL = {"tokenizer.json": 4000, "chat_template.jinja": 1600, "generation_config.json": 3600, "manifest.json": 800}
GRAPHS = 400


def test_flipped_bits(bundle, tmp_path, row):
    """Each in another place, by size over all files; every one stops the load."""
    copied, rng, found = copy_bundle(bundle, tmp_path / "bundle"), random.Random(0), 0
    files = sorted(copied.iterdir())
    for number in range(FLIPS):
        # half of them where most bytes are, half in files drawn alike: else no small one would be hit
        weights = [path.stat().st_size for path in files] if number % 2 else None
        (path,) = rng.choices(files, weights)
        with path.open("r+b") as file:
            at, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ bit]))
        try:
            open_bundle(copied)
        except MoedgeError as error:
            found += "\n" not in str(error)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([byte]))
    open_bundle(copied)
    row(
        "truncated, flipped, missing, hard-linked, escaping files",
        f"{FLIPS} random single-bit flips over all files; the others in tests/test_bundle.py",
        "100 % found before a token is served; traversal, absolute path, outside link, link count > 1 refused",
        f"{found} of {FLIPS} found",
        found == FLIPS,
    )
    assert found == FLIPS


def test_small_files_of_an_attacker(bundle, row):
    jobs = [(name, first, 200) for name, count in SMALL.items() for first in range(0, count, 200)]
    attempts = _try_all(bundle, jobs)
    _tell(
        row,
        attempts,
        "hostile model: small files",
        f"{len(attempts)} mutations with hashes made anew, in child processes",
    )


def test_graphs_of_an_attacker(bundle, tmp_path, row):
    tiny = write_tiny_bundle(tmp_path / "toy")
    attempts = _try_all(bundle, [("model.onnx", first, 50) for first in range(0, GRAPHS // 2, 50)])
    attempts += _try_all(tiny, [("model.onnx", first, 50) for first in range(0, GRAPHS // 2, 50)])
    _tell(
        row,
        attempts,
        "hostile model: graphs",
        f"{len(attempts)} mutations of two graphs with hashes made anew, loaded and run",
    )


def _try_all(bundle, jobs):
    with ThreadPoolExecutor(2) as pool:
        return [each for found in pool.map(lambda job: try_mutations(bundle, *job), jobs) for each in found]


def _tell(row, attempts, fault, method):
    found = outcomes(attempts)
    bad = [attempt for attempt in attempts if attempt.outcome not in ("served", "refused")]
    seconds = [attempt.seconds for attempt in attempts]
    slowest = max(seconds)
    row(
        fault,
        method,
        "no crash by signal, no hang, no execution, one sentence",
        f"{found['refused']} refused in a sentence, {found['served']} served;"
        f" {found['died']} died, {found['hung']} hung, {found['raised']} raised;"
        f" p99 {1000 * percentile(seconds, 0.99):.0f} ms, at most {slowest:.1f} s",
        not bad,
    )
    assert not bad, bad[:5]
