"""Whether a device holds a model, and how fast it answers there: a manifest, a profile and a context to one `Plan`.

Sizes are sizes.py's and memory_need.py's, as `run` and `serve` use them; times are devices/forecast.py's. The manifest
may be of a bundle, or of one that was never made (export/planning).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moedge.devices.forecast import Bound, CacheRows, Storage, TokenWork, decode_seconds, prompt_seconds
from moedge.devices.profile import Profile
from moedge.runtime.manifest import ATTENTION, CONVOLUTION, DENSE_MLP, ROUTED_EXPERTS, Manifest
from moedge.runtime.memory_need import MemoryNeed, memory_need
from moedge.runtime.sizes import CACHE_BYTES, bits_per_weight, cache_row_bytes, state_bytes
from moedge.runtime.token_bytes import token_bytes

PROMPT = 512  # tokens, of the rate that is told
DEPTHS = (0, 512, 4096)  # tokens in the cache
FIRST_TOKENS = (100, 1000, 10_000)  # of prompts
EXACT_PLANES = 3  # of int8 numbers, that an exact activation is multiplied as: see docs/kernels.md
# Times that memory moves a state for a token or a run: read, fetched where it is to be written, written.
STATE_MOVES = 3
STATE_PASSES = 3  # products with each number of a recurrent state, a token
LEAST_RESIDENT = 0.02  # of the experts: with less, nothing is answered in any time


@dataclass(frozen=True)
class FromStorage:
    """What a device does with a model that its memory does not hold: the file's pages come and go."""

    resident_experts: float  # share
    decode_tokens_per_second: float
    prompt_tokens_per_second: float


@dataclass(frozen=True)
class Plan:
    """Of one model on one device; sizes in bytes, rates of an answer by itself."""

    model: str
    total_parameters: int
    active_parameters: int  # for a token
    bits_per_weight: float  # in the bundle's files
    state_bytes: int  # of recurrent layers, whatever the length; caches hold some of such states
    device: str
    scheme: str
    expert_plan: str
    context: int
    fits: bool
    need: MemoryNeed
    budget_bytes: int
    largest_context: int  # 0: not even one token
    bytes_per_token: int  # read for the first token of an answer to an empty prompt
    decode_tokens_per_second: float
    decode_by_depth: dict[int, float]
    prompt_tokens_per_second: float
    bound: Bound  # of decoding
    prompt_bound: Bound
    first_token_seconds: dict[int, float]
    prefill_chunk: int
    from_storage: FromStorage | None  # where it does not fit, and some of it does

    @property
    def spare_bytes(self) -> int:
        """What is left of the budget; below 0 what is missing."""
        return self.budget_bytes - self.need.total


def make_plan(
    manifest: Manifest, profile: Profile, context: int | None = None, sessions: int = 1, most_context: int = 0
) -> Plan | None:
    """The plan, at the manifest's own context unless another is given; None for weights that ONNX Runtime may unpack.

    `most_context` is what could be exported; 0: no more than the manifest has.

    Those are the quantized ones of the `if` plan: what they take and cost is decided at load.
    """
    context = context or manifest.model.context_length
    held = at_context(manifest, context)
    work = work_of(held, profile)
    if work is None:
        return None
    need = memory_need(held, sessions, profile.prefill_chunk, profile.cache_type)
    budget, rates, chunk = profile.memory_budget_bytes, profile.rates, profile.prefill_chunk
    step = decode_seconds(work, rates, 0)
    prompt = prompt_seconds(work, rates, PROMPT, chunk)
    fits = need.total <= budget
    return Plan(
        model=manifest.name,
        total_parameters=manifest.model.total_parameters,
        active_parameters=manifest.model.active_parameters,
        bits_per_weight=bits_per_weight(manifest),
        state_bytes=state_bytes(manifest),
        device=profile.name,
        scheme=manifest.scheme,
        expert_plan=manifest.experts.plan,
        context=context,
        fits=fits,
        need=need,
        budget_bytes=budget,
        largest_context=largest_context(manifest, profile, most_context or manifest.model.context_length, sessions),
        bytes_per_token=work.token_bytes,
        decode_tokens_per_second=1 / step.total,
        decode_by_depth={depth: 1 / decode_seconds(work, rates, depth).total for depth in DEPTHS if depth <= context},
        prompt_tokens_per_second=PROMPT / prompt.total,
        bound=step.bound,
        prompt_bound=prompt.bound,
        first_token_seconds={tokens: prompt_seconds(work, rates, tokens, chunk).total for tokens in FIRST_TOKENS},
        prefill_chunk=chunk,
        from_storage=None if fits else _from_storage(work, need, profile),
    )


def at_context(manifest: Manifest, context: int) -> Manifest:
    """The same model made for another context."""
    return replace(manifest, model=replace(manifest.model, context_length=context))


def largest_context(manifest: Manifest, profile: Profile, most: int, sessions: int = 1) -> int:
    """The longest context whose caches the budget holds, `most` at most; 0 if there is none."""

    def fits(context: int) -> bool:
        need = memory_need(at_context(manifest, context), sessions, profile.prefill_chunk, profile.cache_type)
        return need.total <= profile.memory_budget_bytes

    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def work_of(manifest: Manifest, profile: Profile) -> TokenWork | None:
    """What a token costs; None where that is not known before ONNX Runtime loads the weights."""
    read = token_bytes(manifest, 0)
    if read is None:
        return None
    model, groups = manifest.model, manifest.tensors
    routed = [group for group in groups if group.name == ROUTED_EXPERTS]
    experts = model.num_experts if model.moe_layers else 0
    all_bytes = read.experts * experts // max(1, model.num_experts_per_tok)
    expert_macs = sum(group.parameters for group in routed)
    dense_macs = model.active_parameters - expert_macs * model.num_experts_per_tok // max(1, experts)
    dense_macs -= sum(group.parameters for group in groups if group.name in ("embedding", "lm_head"))
    exact = _exact_parameters(manifest, 2) if manifest.experts.plan == "native" else 0
    return TokenWork(
        expert_bytes=all_bytes,
        expert_macs=expert_macs,
        experts=experts,
        experts_per_token=model.num_experts_per_tok if experts else 0,
        dense_bytes=read.dense,
        dense_macs=max(0, dense_macs) + (EXACT_PLANES - 1) * exact,
        head_bytes=read.head,
        cache=tuple(_rows(manifest, profile)),
        layers=_mixing_layers(manifest),
        state_bytes=STATE_MOVES * state_bytes(manifest),
        state_macs=STATE_PASSES * state_bytes(manifest) // CACHE_BYTES,
        fused=manifest.experts.plan != "native",
        unpacked=_unpacked(manifest),
    )


def _exact_parameters(manifest: Manifest, least_bits: int) -> int:
    """Weights of at least so many bits that are multiplied with exact activations: those up to the first router.

    Dense layers come before those with experts. Where layers are a mixer or an MLP alone, the second has experts; where
    each has experts beside a dense MLP, one is before the first router.
    """
    model, layers = manifest.model, _mixing_layers(manifest)
    exact = min(layers, model.num_hidden_layers - model.moe_layers + 1) if layers == model.num_hidden_layers else 1
    groups = [group for group in manifest.tensors if group.block and group.kernel_bits >= least_bits]
    mixing = sum(group.parameters for group in groups if group.name in (ATTENTION, CONVOLUTION))
    dense = sum(group.parameters for group in groups if group.name == DENSE_MLP)
    beside = model.moe_layers == model.num_hidden_layers
    return mixing * exact // max(1, layers) + (dense // model.num_hidden_layers if beside else dense)


def _mixing_layers(manifest: Manifest) -> int:
    """Layers in which tokens see one another: each keeps something."""
    layers = {tensor.past.rpartition(".")[0] for tensor in manifest.cache}
    return len(layers) or manifest.model.num_hidden_layers


def _unpacked(manifest: Manifest) -> int:
    """Weights that ONNX Runtime unpacks at each run: it has no kernel for codes of 8 bits with exact activations."""
    return _exact_parameters(manifest, 8) if manifest.experts.plan == "fused" else 0


def _rows(manifest: Manifest, profile: Profile) -> Iterator[CacheRows]:
    """Query heads share key heads: each multiplies as many numbers as a row of one key head has."""
    found: dict[int, tuple[int, int, int]] = {}
    for tensor in manifest.cache:
        if tensor.is_state:
            continue
        nbytes = cache_row_bytes(tensor, profile.cache_type)
        kind = tensor.past.rpartition(".")[2]
        # a latent row is key and value of all heads; each channel of a convolution has a tap a token
        heads = {"convolution": 1, "latent": 2 * manifest.model.num_attention_heads}
        macs = heads.get(kind, manifest.model.num_attention_heads) * tensor.shape[-1]
        size, products, many = found.get(tensor.window, (0, 0, 0))
        shared = macs // 2 if kind == "latent" else macs
        found[tensor.window] = size + nbytes, products + macs, many + shared
    for window, (size, products, many) in found.items():
        yield CacheRows(size, products, many, window)


def _from_storage(work: TokenWork, need: MemoryNeed, profile: Profile) -> FromStorage | None:
    """Only where weights are pages of the file, which the native plan's are; None if dense parts alone do not fit."""
    if work.fused or not work.expert_bytes:
        return None
    others = need.total - need.weights
    left = profile.memory_budget_bytes - others - (need.weights - work.expert_bytes)
    share = left / work.expert_bytes
    if share < LEAST_RESIDENT:
        return None
    storage = Storage(min(1.0, share), profile.storage_bytes_per_s)
    step = decode_seconds(work, profile.rates, 0, storage)
    prompt = prompt_seconds(work, profile.rates, PROMPT, profile.prefill_chunk, storage)
    return FromStorage(storage.resident, 1 / step.total, PROMPT / prompt.total)
