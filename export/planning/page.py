"""What `moedge plan` prints: a page of one plan, a line a device, or JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from moedge.devices.profile import Profile
from moedge.runtime.device_plan import Plan

BOUNDS = {"memory": "memory's bandwidth", "compute": "computing", "storage": "storage"}


def describe(plan: Plan, best: str | None) -> dict[str, Any]:
    """For machines; sizes in bytes, times in seconds."""
    need = plan.need
    return {
        "model": plan.model,
        "device": plan.device,
        "scheme": plan.scheme,
        "expert_plan": plan.expert_plan,
        "context": plan.context,
        "sessions": need.sessions,
        "total_parameters": plan.total_parameters,
        "active_parameters": plan.active_parameters,
        "bits_per_weight": round(plan.bits_per_weight, 3),
        "fits": plan.fits,
        "memory_bytes": {
            "weights": need.weights,
            "cache": need.caches,
            "activations": need.scratch,
            "runtime": need.program,
            "loading": need.loading,
            "total": need.total,
        },
        "memory_budget_bytes": plan.budget_bytes,
        "spare_bytes": plan.spare_bytes,
        "largest_context": plan.largest_context,
        "best_scheme": best,
        "state_bytes": plan.state_bytes,
        "bytes_per_token": plan.bytes_per_token,
        "decode_tokens_per_second": _rate(plan, plan.decode_tokens_per_second, "decode_tokens_per_second"),
        "decode_tokens_per_second_by_depth": {str(depth): rate for depth, rate in plan.decode_by_depth.items()},
        "prompt_tokens_per_second": _rate(plan, plan.prompt_tokens_per_second, "prompt_tokens_per_second"),
        "bound": "storage" if plan.from_storage else plan.bound,
        "prompt_bound": "storage" if plan.from_storage else plan.prompt_bound,
        "first_token_seconds": {str(tokens): seconds for tokens, seconds in plan.first_token_seconds.items()},
        "prefill_chunk": plan.prefill_chunk,
        "from_storage": asdict(plan.from_storage) if plan.from_storage else None,
    }


def _rate(plan: Plan, in_memory: float, name: str) -> float | None:
    """Where it does not fit, that from storage; None if it does not run at all."""
    if plan.fits:
        return in_memory
    return getattr(plan.from_storage, name) if plan.from_storage else None


def plan_lines(plan: Plan, best: str | None, profile: Profile) -> Iterator[str]:
    """For people."""
    need = plan.need
    spare = _size(abs(plan.spare_bytes))
    verdict = f"fits, {spare} left" if plan.fits else f"DOES NOT FIT, {spare} short"
    yield f"{plan.model} on {profile.description} ({plan.device}): {verdict}"
    yield f"  scheme {plan.scheme}, plan {plan.expert_plan}, context {plan.context}, caches in {profile.cache_type}"
    yield ""
    caches = "cache" if need.sessions == 1 else f"caches of {need.sessions}"
    parts = [("weights", need.weights), (caches, need.caches), ("activations", need.scratch), ("runtime", need.program)]
    yield "  memory           " + " + ".join(f"{name} {_size(size)}" for name, size in parts)
    loading = f", while loading {_size(need.loading)} beside the weights" if need.loading else ""
    yield f"                   = {_size(need.total)} of {_size(plan.budget_bytes)}{loading}"
    yield f"  largest context  {plan.largest_context or 'none'}" + (" tokens" if plan.largest_context else "")
    yield f"  best scheme      {best or 'none fits'}"
    states = f", and reads and writes {_size(plan.state_bytes)} of states" if plan.state_bytes else ""
    yield f"  a token reads    {_size(plan.bytes_per_token)} of weights{states}"
    if plan.fits:
        yield from _speed(plan)
    elif stored := plan.from_storage:
        share, reads = f"{stored.resident_experts:.0%}", f"{profile.storage_bytes_per_s / 1e6:.0f} MB/s"
        decode, prompt = _tokens(stored.decode_tokens_per_second), _tokens(stored.prompt_tokens_per_second)
        yield f"  from storage     {share} of the experts stay in memory, the others are read at {reads}"
        yield f"  decode           {decode}, bound by storage, where --allow-low-memory is given"
        yield f"  prompt           {prompt}"
    else:
        yield "  from storage     no: what every token needs does not fit into memory either"
    yield ""
    yield f"  rates are {_origin(profile)}; `moedge devices {plan.device}` lists them"


def _speed(plan: Plan) -> Iterator[str]:
    rates = [(depth, _tokens(rate)) for depth, rate in plan.decode_by_depth.items()]
    deep = "".join(f", {rate} after {depth}" for depth, rate in rates if depth)
    yield f"  decode           {rates[0][1]}{deep}; bound by {BOUNDS[plan.bound]}"
    prompt = f"{_tokens(plan.prompt_tokens_per_second)}, in runs of {plan.prefill_chunk}"
    yield f"  prompt           {prompt}; bound by {BOUNDS[plan.prompt_bound]}"
    firsts = (f"{_time(seconds)} after {tokens}" for tokens, seconds in plan.first_token_seconds.items())
    yield f"  first token      {', '.join(firsts)} tokens of prompt"


def _origin(profile: Profile) -> str:
    told = [profile.sources[key] for key in asdict(profile.rates)]
    measured = sum("measured" in source for source in told)
    if not measured:
        return "estimated from the hardware, right within a factor of 1.5 or so where it was compared"
    return "measured" if measured == len(told) else "measured in part"


def device_lines(found: Sequence[tuple[Profile, Plan, str | None]]) -> Iterator[str]:
    """A line a device, the smallest first."""
    rows = [("device", "fits", "needs", "has", "best scheme", "decode/s", "prompt/s", "first token of 1,000", "bound")]
    for profile, plan, best in sorted(found, key=lambda each: each[1].budget_bytes):
        known = describe(plan, best)
        decode, prompt = known["decode_tokens_per_second"], known["prompt_tokens_per_second"]
        first = _time(plan.first_token_seconds[1000]) if plan.fits else "–"
        name = f"{plan.device} (here)" if profile.sources["memory_bytes"].startswith("detected") else plan.device
        rows.append(
            (
                name,
                "yes" if plan.fits else "from storage" if plan.from_storage else "no",
                _size(plan.need.total),
                _size(plan.budget_bytes),
                best or "none",
                "–" if decode is None else f"{decode:.1f}",
                "–" if prompt is None else f"{prompt:.0f}",
                first,
                known["bound"] if decode is not None else "–",
            )
        )
    model = found[0][1]
    yield f"{model.model}: scheme {model.scheme}, context {model.context}"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _tokens(rate: float) -> str:
    return f"{rate:.1f} tokens/s" if rate < 100 else f"{rate:.0f} tokens/s"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
