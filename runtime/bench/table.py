"""The results of `moedge bench` for people."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from moedge.runtime.bench.results import DecodeRate, Results
from moedge.runtime.bench.spread import Spread


def print_results(results: Results, console: Console) -> None:
    """Two or three tables, with a line a fact around them."""
    for line in _heading(results):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_rates(results))
    if results.decode:
        console.print(_steps(results))
    if results.batches:
        console.print(_batches(results))
    for line in _rest(results):
        console.print(line, highlight=False, soft_wrap=True)


def _heading(results: Results) -> Iterator[str]:
    told = results.provenance
    bundle, machine, profile, versions = told["bundle"], told["machine"], told["profile"], told["versions"]
    commit = f" at {told['commit']}" if told["commit"] else ""
    yield f"{bundle['name']}: {bundle['model_type']}, scheme {bundle['scheme']}, plan {bundle['plan']}, manifest "\
          f"{bundle['manifest_sha256'][:12]}"  # fmt: skip
    yield f"moedge {versions['moedge']}{commit}, onnxruntime {versions['onnxruntime']}, kernels: {told['kernels']}"
    yield f"{machine['cpu'] or 'unknown CPU'} ({machine['architecture']}: {' '.join(machine['isa'])})"
    yield f"profile {profile['name']}, {_threads(profile)} threads, prompts in chunks of "\
          f"{profile['prefill_chunk']}, awake for {profile['awake_us']} µs, caches in {profile['cache_type']}; "\
          f"load of the machine before: {told['load']}"  # fmt: skip
    yield from (f"[bold]note:[/bold] {sentence}" for sentence in results.question.left_out)


def _threads(profile: dict[str, Any]) -> str:
    prefill, decode = profile["prefill_threads"], profile["decode_threads"]
    return str(decode) if prefill == decode else f"{prefill} (prompts) and {decode} (decode)"


def _rates(results: Results) -> Table:
    table = Table("", "tokens/s", "from", "to", title="Rates: medians over the rounds", title_justify="left")
    for prompt in results.prompts:
        table.add_row(f"prompt of {prompt.tokens}", *_numbers(prompt.tokens_per_s))
    for rate in results.decode:
        table.add_row(f"decode {results.question.steps} at depth {rate.depth}", *_numbers(rate.tokens_per_s))
    return table


def _steps(results: Results) -> Table:
    columns = ("depth", "p50 ms", "p95 ms", "p99 ms", "must read", "reached", "from storage a token")
    table = Table(*columns, title="Between two tokens, and the memory's limit", title_justify="left")
    for rate in results.decode:
        must = "not known" if rate.must_read is None else _size(rate.must_read.total)
        share = "–" if rate.share is None else f"{rate.share:.0%}"
        stored = "not known" if rate.storage_bytes_per_token is None else _size(rate.storage_bytes_per_token)
        times = (f"{time:.2f}" for time in (rate.p50_ms, rate.p95_ms, rate.p99_ms))
        table.add_row(str(rate.depth), *times, must, share, stored)
    return table


def _batches(results: Results) -> Table:
    depth = results.batches[0].depth
    title = f"Sessions at once, each at depth {depth}: tokens/s of all, and between two tokens of one"
    columns = ("sessions", "tokens/s", "from", "to", "p50 ms", "p95 ms", "p99 ms")
    table = Table(*columns, title=title, title_justify="left")
    for rate in results.batches:
        times = (f"{time:.2f}" for time in (rate.p50_ms, rate.p95_ms, rate.p99_ms))
        table.add_row(str(rate.sessions), *_numbers(rate.tokens_per_s), *times)
    return table


def _rest(results: Results) -> Iterator[str]:
    band, first, load = results.bandwidth, results.first_token, results.load
    note = f" ({band.note})" if band.note else ""
    yield f"memory reads at {_spread(band.bytes_per_s, 1e9)} GB/s with {band.threads} threads over "\
          f"{_size(band.buffer_bytes)}{note}; reached is a share of the most"  # fmt: skip
    if results.decode and results.decode[0].must_read:
        yield _shares(results.decode[0])
    yield f"first token of {first.prompt}: {1e3 * first.cold:.0f} ms with the load, files not in memory; loaded "\
          f"{_spread(first.warm, 1e-3)} ms; with {first.cached_tokens} of them cached "\
          f"{_spread(first.cached, 1e-3)} ms"  # fmt: skip
    read = "" if load.first_read_bytes is None else f" and {_size(load.first_read_bytes)} from storage to the answer"
    yield f"load: imports {load.imports:.2f} s, hashes {load.hashes:.2f} s (in memory), first load {load.first:.2f} s"\
          f"{read}, again {load.again:.2f} s"  # fmt: skip
    if results.peak:
        yield f"memory, the most between steps: {_size(results.peak.anonymous)} of the process, "\
              f"{_size(results.peak.file_backed)} of files"  # fmt: skip
    yield f"energy: {results.energy}"


def _shares(rate: DecodeRate) -> str:
    parts = rate.must_read
    if parts is None:
        return ""
    named = (("experts", parts.experts), ("dense", parts.dense), ("head", parts.head), ("cache", parts.cache))
    return f"of {_size(parts.total)} at depth {rate.depth}: " + ", ".join(f"{n} {_size(size)}" for n, size in named)


def _numbers(spread: Spread) -> Iterator[str]:
    return (f"{each:.1f}" for each in (spread.median, spread.low, spread.high))


def _spread(spread: Spread, unit: float) -> str:
    median, low, high = (each / unit for each in (spread.median, spread.low, spread.high))
    return f"{median:.1f} ({low:.1f}–{high:.1f})"


def _size(size: float) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size:.0f} B"
