"""The parts of a report that are pictures, and the figures at its top; "" for what was not measured."""

from collections.abc import Iterator
from html import escape

from moedge.runtime.profiling.findings import Findings
from moedge.runtime.profiling.report_pictures import Bar, Point, bars, heat_map, lines, roofline
from moedge.runtime.profiling.report_words import GIGA, card, spelt_range, table, tile


def tiles(findings: Findings) -> Iterator[str]:
    """The few figures that matter most."""
    band = findings.best_bandwidth
    yield tile(f"{band.median / GIGA:.1f} GB/s", "memory read")
    if findings.layers:
        yield tile(f"{findings.layers.weights.median / GIGA:.1f} GB/s", "weights multiplied with a token")
        yield tile(f"{findings.layers.prompt.median / GIGA:.0f} GMAC/s", "products of a prompt")
    if model := findings.model:
        first, prompt = model.decode[0], model.prompts[-1]
        yield tile(f"{first.tokens_per_s.median:.1f} tok/s", f"decode at depth {first.depth}")
        yield tile(f"{prompt.tokens_per_s.median:.0f} tok/s", f"prompt of {prompt.tokens}")
        yield tile(f"{1e3 * model.first_token.warm.median:.0f} ms", f"to the first token of {model.first_token.prompt}")
        yield tile(f"{first.p50_ms:.1f} / {first.p99_ms:.1f} ms", "between tokens, p50 / p99")
    if energy := findings.energy:
        for joules, what in ((energy.prompt_joules, "a prompt's token"), (energy.decode_joules, "a decoded token")):
            if joules is not None:
                yield tile(f"{joules:.2f} J", f"{what}, beyond {energy.idle_watts:.1f} W idle")
    else:
        yield tile("not measured", "energy")


def roof_part(findings: Findings) -> str:
    """The roofline."""
    found = list[tuple[str, float, float, str]]()  # name, MAC a byte, MAC/s, kind
    if layers := findings.layers:
        read = layers.step_bytes
        found.append(
            ("a token through layers", layers.step_macs / read, layers.step_macs / layers.step_seconds.median, "own")
        )
        macs = layers.step_macs * layers.chunk
        whole = macs / layers.chunk_seconds.median
        found.append((f"{layers.chunk} tokens through layers", macs / layers.chunk_bytes, whole, "own"))
    for each in findings.stock.operators:
        rows = "1 row" if each.rows == 1 else f"{each.rows} rows"
        found.append((f"{each.operator}, {rows}", each.macs_per_byte, each.macs_per_s.median, "stock"))
    if (model := findings.model) and model.token_bytes:
        decode, prompt = model.decode[0], model.prompts[-1]
        rate = decode.tokens_per_s.median * model.token_macs
        found.append(("the model: a token", model.token_macs / model.token_bytes, rate, "model"))
        if model.chunk_bytes:
            macs = model.token_macs * model.chunk_tokens
            rate = prompt.tokens_per_s.median * model.token_macs
            found.append((f"the model: a prompt of {prompt.tokens}", macs / model.chunk_bytes, rate, "model"))
    if not found:
        return ""
    points = [Point(x, y, number, kind) for number, (_, x, y, kind) in enumerate(found, 1)]
    best = max(y for _, _, y, _ in found)
    labels = "products for each byte of weights", "GMAC/s"
    picture = roofline(points, findings.best_bandwidth.median, best, GIGA, labels)
    legend = "".join(
        f'<li class="{kind}"><b>{number}</b><span>{escape(name)}: {y / GIGA:.3g}</span></li>'
        for number, (name, _, y, kind) in enumerate(found, 1)
    )
    note = (
        f"Roofs: memory read at {findings.best_bandwidth.median / GIGA:.1f} GB/s, and the most products of all. "
        'Points: <i class="own">moedge\'s operators</i>, <i class="stock">ONNX Runtime\'s</i>'
        + (', <i class="model">the model</i>.' if findings.model else ".")
    )
    return card("Roofline", f'{picture}<ol class="legend">{legend}</ol>', note)


def bandwidth_part(findings: Findings) -> str:
    """Memory by threads."""
    rows = [
        Bar(
            f"{each.threads} thread{'s' if each.threads > 1 else ''}",
            each.bytes_per_s.median,
            spelt_range(each.bytes_per_s, GIGA, "GB/s"),
        )
        for each in findings.bandwidth
    ]
    notes = {each.note for each in findings.bandwidth if each.note}
    return card(
        "Memory by threads",
        bars(rows, "own"),
        f"Plain reading over more than the caches hold. {escape('; '.join(notes))}",
    )


def depth_part(findings: Findings) -> str:
    """Speed by depth, and prompts in a table."""
    model = findings.model
    if model is None:
        return ""
    measured = [(float(each.depth), each.tokens_per_s.median) for each in model.decode]
    ranges = [(float(each.depth), each.tokens_per_s.low, each.tokens_per_s.high) for each in model.decode]
    told = [(float(depth), rate) for depth, rate in model.predicted_decode]
    series = [("model", measured)] + ([("stock", told)] if len(told) > 1 else [])
    picture = lines(series, ranges, ("tokens in the cache", "tok/s"))
    note = 'Decode: <i class="model">measured</i> with the range of its rounds'
    note += ', <i class="stock">predicted</i> from the measured rates.' if len(told) > 1 else "."
    rows = [(f"prompt of {each.tokens}", f"{each.tokens_per_s.median:.0f} tok/s", "") for each in model.prompts]
    rows += [
        (
            f"between tokens at {each.depth}",
            f"p50 {each.p50_ms:.1f} ms",
            f"p95 {each.p95_ms:.1f}, p99 {each.p99_ms:.1f}",
        )
        for each in model.decode
    ]
    first = model.first_token
    rows.append(
        (
            f"first token of {first.prompt}",
            f"{1e3 * first.warm.median:.0f} ms",
            f"{1e3 * first.cached.median:.0f} ms with {first.cached_tokens} cached",
        )
    )
    return card("Speed by depth", picture + table((), rows, numbers=(1,)), note)


def operator_part(findings: Findings) -> str:
    """Where the time goes."""
    times = findings.operators
    if times is None:
        return card(
            "Where the time goes", '<p class="note">Not measured without a bundle: `moedge profile BUNDLE`.</p>'
        )
    parts = list[str]()
    for what, kind, pick in (("a token", "model", 0), (f"a prompt of {times.prompt_tokens}", "own", 1)):
        found = [(each.operator, (each.token_s, each.prompt_s)[pick], each.nodes) for each in times.operators]
        whole = sum(seconds for _, seconds, _ in found) or 1
        found = sorted(found, key=lambda each: -each[1])
        kept = [each for each in found if each[1] >= 0.005 * whole][:7]
        rest = whole - sum(seconds for _, seconds, _ in kept)
        rows = [
            Bar(f"{name} × {nodes}" if nodes else name, seconds, f"{seconds / whole:.0%}, {1e3 * seconds:.2f} ms")
            for name, seconds, nodes in kept
        ]
        rows += [Bar("all others", rest, f"{rest / whole:.0%}, {1e3 * rest:.2f} ms")] if rest > 0.001 * whole else []
        parts.append(f"<h3>{what}: {1e3 * whole:.1f} ms</h3>{bars(rows, kind)}")
    return card("Where the time goes", "".join(parts), "By onnxruntime's profiler, in runs of their own.")


def expert_part(findings: Findings) -> str:
    """The heat map."""
    usage = findings.usage
    if usage is None:
        return ""
    picture = heat_map([str(layer) for layer in usage.layers], usage.counts, ("expert", "layer"))
    shares = usage.shares_used
    least, most = min(shares), max(shares)
    used = f"{least:.0%}" if least == most else f"{least:.0%} to {most:.0%}"
    note = (
        f"How often each expert was chosen in {usage.tokens} tokens of text and an answer: layers from top to bottom, "
        f"the darker the more, each layer by its own most. {used} of a layer's experts were used."
    )
    return card("Experts by layer", picture, note)
