"""The `native` plan: moedge's own kernels for all quantized weights, which they read in the file as they lie, and for
attention. docs/kernels.md has the operators, docs/graph.md the caches.
"""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import in_turn
from moedge.export.graph.builder import MOEDGE, Attributes, Builder, drop_absent_last
from moedge.export.graph.convolution import plain_convolution
from moedge.export.graph.inputs import SegmentInputs
from moedge.export.graph.kernel_lowering import KernelLowering
from moedge.export.graph.lowering import CachePort, ExpertWeights, GatedMlp, Norm, Positions, RouterWeights, Routing
from moedge.export.graph.mixer_inputs import Convolved, Heads, Latents, Vector
from moedge.export.graph.mlp import plain_mlp, plain_shared
from moedge.export.graph.native_recurrent import NativeRecurrent
from moedge.export.graph.positions import build_positions
from moedge.export.graph.routing import scale_experts
from moedge.export.graph.storing import scheme_for, store_floats
from moedge.export.graph.tiled import StoredTiles, store_tiles
from moedge.export.model.config import Experts, GroupedQuery, Mixer, MultiHeadLatent, Router
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import ATTENTION, ROUTED_EXPERTS, CacheTensor, GroupName

EXACT_BITS, COARSE_BITS = 24, 8  # of activations, as kernels take them: 24 are as good as fp32
PLAIN_BITS = 32  # of a latent up-projection that no scheme rounds
BYTES = ir.TensorType(ir.DataType.UINT8)


class NativeLowering(NativeRecurrent, KernelLowering[StoredTiles]):
    """Lowers a decoder to moedge's operators and ONNX Runtime's contributed ones."""

    def __init__(self, builder: Builder, schemes: SchemePlan, rounding: Rounding, notes: list[str]) -> None:
        super().__init__(builder, schemes, rounding, notes)
        self.graph_inputs = SegmentInputs()

    def positions(self, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int) -> Positions:
        """The whole rotary tables; kernels have all else from the segments."""
        where, _ = build_positions(self.builder, self.graph_inputs, tokens, mixers, context)
        return where

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        """One AddNorm node; ONNX Runtime's kernel where it is a LayerNorm."""
        if norm.bias is not None:
            return super().add_norm(x, delta, norm)
        inputs, eps = (x, delta, norm.weight), norm.eps
        normed, total = self.builder.ops("AddNorm", *inputs, attributes={"eps": eps}, outputs=2, domain=MOEDGE)
        return normed, total

    def grouped_query(self, layer: int, heads: Heads, config: GroupedQuery, where: Positions) -> ir.Value:
        """One Attention node, which takes the joint product as it comes and extends a cache buffer in place."""
        b, rope = self.builder, config.rope
        rotary = where.rotary[rope] if rope else None
        window = config.window if where.hides(config) else 0
        norms = [norm.store(b) for norm in heads.norms] if heads.norms else [None, None]
        sinks = heads.sinks.store(b) if heads.sinks else None
        attributes: Attributes = {
            "heads": config.num_heads,
            "kv_heads": config.num_kv_heads,
            "dim": config.head_dim,
            "rotary": rope.dim if rope else 0,
            "scale": config.scale,
            "window": window,
            "norm": config.qk_norm,
            "eps": heads.norm_eps,
            "clip": config.clip or 0.0,
            "switch": rotary.switch if rotary else 0,
            "activation_bits": self.activation_bits,
            "layer": layer,
        }
        if config.value_is_key:
            attributes["value"] = "key"
        if config.value_norm:
            attributes["value_norm"] = 1
        tables = (rotary.cos, rotary.sin) if rotary else (None, None)
        pasts = [self.cache_input(layer, name, config.num_kv_heads) for name in ("key", "value")]
        inputs = [heads.joined, *pasts, self.graph_inputs.segments, *tables, *norms, sinks]
        out, *presents = b.ops(
            "Attention",
            *drop_absent_last(inputs),
            attributes=attributes,
            outputs=[b.full_name("context"), *(f"present.{layer}.{name}" for name in ("key", "value"))],
            domain=MOEDGE,
        )
        for past, present in zip(pasts, presents, strict=True):
            self.keep_cache(past, present, (config.num_kv_heads, config.head_dim), window, self.exact_activations)
        return out

    def latent(self, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        """One LatentAttention node, which reads the up-projection as it is stored."""
        b, rotary, width = self.builder, where.rotary[config.rope], config.latent_width
        sizes = b.ints(latents.query_width, width)
        first, row = b.ops("Split", latents.joined, sizes, attributes={"axis": -1}, outputs=2)
        q = latents.query(first)
        attributes: Attributes = {
            "heads": config.num_heads,
            "nope": config.qk_nope_head_dim,
            "rope": config.qk_rope_head_dim,
            "v": config.v_head_dim,
            "rank": config.kv_lora_rank,
            "scale": config.scale,
            "eps": config.latent_norm_eps,
            "switch": rotary.switch,
            "activation_bits": self.activation_bits,
            "layer": layer,
        }
        tiles, plain, kept = self._store_up(latents.up, latents.joint())
        past = self.cache_input(layer, "latent", 1)
        inputs = [q, row, past, self.graph_inputs.segments, rotary.cos, rotary.sin, latents.norm.store(b), tiles, plain]
        out, present = b.ops(
            "LatentAttention",
            *drop_absent_last(inputs),
            attributes=attributes | kept,
            outputs=[b.full_name("context"), f"present.{layer}.latent"],
            domain=MOEDGE,
        )
        self.keep_cache(past, present, (1, width), 0, self.exact_activations)
        return out

    def _store_up(self, name: str, matrix: Matrix) -> tuple[ir.Value | None, ir.Value | None, Attributes]:
        """Tile rows, or fp32 rows, of an up-projection, and what the kernel is to know of them."""
        scheme = scheme_for((matrix,), self._schemes.of(ATTENTION, self.layer), name, self.notes)
        if not scheme.quantized:
            return None, store_floats(self.builder, name, matrix, self.rounding, ATTENTION), {"bits": PLAIN_BITS}
        stored = self.store(name, matrix, scheme, ATTENTION)
        return self.builder.initializer(stored.region.tensor), None, stored.format

    def convolve(self, layer: int, given: Convolved) -> ir.Value:
        """One ShortConvolution node over a cache whose last rows it reads; plain operators where it reads none."""
        b, (kernel, hidden) = self.builder, given.taps.values.shape
        if kernel == 1:
            return plain_convolution(self, layer, given)
        past = self.cache_input(layer, "convolution", 1)
        bias = given.bias.store(b) if given.bias else None
        inputs = [given.joined, past, self.graph_inputs.segments, given.store_taps(b), bias]
        out, present = b.ops(
            "ShortConvolution",
            *drop_absent_last(inputs),
            attributes={"hidden": hidden, "kernel": kernel, "layer": layer},
            outputs=[b.full_name("convolved"), f"present.{layer}.convolution"],
            domain=MOEDGE,
        )
        self.keep_cache(past, present, (1, hidden), kernel, True)
        return out

    @property
    def activation_bits(self) -> int:
        """How exact a product's or an attention's activations are where it is built."""
        return EXACT_BITS if self.exact_activations else COARSE_BITS

    def cache_input(self, layer: int, name: str, heads: int) -> ir.Value:
        """The graph's input for a cache of layout `native`."""
        shape = ir.Shape(["slots", heads, "capacity", f"{name}_bytes"])
        return ir.Value(name=f"past_key_values.{layer}.{name}", type=BYTES, shape=shape)

    def keep_cache(self, past: ir.Value, present: ir.Value, shape: tuple[int, int], window: int, exact: bool) -> None:
        """Take note of a cache [kv_heads, width], which is the very buffer of `past`; `window` as the kernel has it."""
        present.type, present.shape = BYTES, past.shape
        names = past.name or "", present.name or ""
        tensor = CacheTensor(*names, "native", shape, window, exact=exact)
        self.cache.append(CachePort(tensor, past, present))

    def store(self, name: str, matrix: Matrix, scheme: Scheme, group: GroupName) -> StoredTiles:
        """As tile rows."""
        return store_tiles(self.builder, name, (matrix,), scheme, self.rounding, group)

    def look_up(self, ids: ir.Value, table: StoredTiles) -> ir.Value:
        """Embedding over the same tile rows that a tied head multiplies."""
        return self._run("Embedding", [ids, self._tiles(table)], table, {})

    def multiply(self, x: ir.Value, stored: StoredTiles, bias: Vector | None) -> ir.Value:
        """Linear."""
        return self._multiply(x, stored, bias)

    def mlp(self, x: ir.Value, weights: GatedMlp) -> ir.Value:
        """Two Linear nodes, of which the first one gives inner values; plain operators where weights are fp32."""
        if not self._schemes.of(weights.group, self.layer).quantized:
            return plain_mlp(self, x, weights)
        return self._mlp(x, weights)

    def add_shared(self, x: ir.Value, routed: ir.Value, weights: GatedMlp, gate: RouterWeights | None) -> ir.Value:
        """The same, added by the second one; its gate is a Router of one."""
        if not self._schemes.of(weights.group, self.layer).quantized:
            return plain_shared(self, x, routed, weights, gate)
        with self.builder.scope("shared_experts"):
            share = None
            if gate:
                _, share = self._route(x, gate, 1, Router("sigmoid", normalize=False), [None, None])
            return self._mlp(x, weights, share, routed)

    def route(self, x: ir.Value, weights: RouterWeights, config: Experts) -> Routing:
        """One Router node."""
        router = config.router
        names = [self.builder.full_name("selection_scores")]
        if not router.weighs_by_logits:
            names.append(self.builder.full_name("selection_weights"))
        select, *weigh = self._route(x, weights, config.num_experts_per_tok, router, names)
        return Routing(select, scale_experts(self.builder, weigh[0], weights) if weigh else None, router.scale)

    def mixture(
        self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts, scheme: Scheme
    ) -> ir.Value:
        """One Experts node, which adds biases and scales its result itself."""
        b, gate = self.builder, config.gate
        gated = gate.matrices == 2
        first, second = (
            store_tiles(b, b.full_name(name), part, scheme, self.rounding, ROUTED_EXPERTS, stacked=True, paired=paired)
            for name, part, paired in (("gate_up_proj", weights.gate_up, gated), ("down_proj", weights.down, False))
        )
        tiles = (b.initializer(stored.region.tensor) for stored in (first, second))
        inputs = [x, routing.select, routing.weigh, *tiles, *self.expert_biases(weights)]
        if self.layer is None:
            raise AssertionError("experts belong to a layer")
        hidden, inter = second.shape
        attributes: Attributes = first.format | {
            "k": config.num_experts_per_tok,
            "hidden": hidden,
            "inter": inter,
            "activation": gate.kind,
            "alpha": gate.alpha,
            "beta": gate.beta,
            "limit": gate.limit or 0.0,
            "routing_scale": routing.scale,
            "layer": self.layer,
        }
        return b.op("Experts", *drop_absent_last(inputs), attributes=attributes, domain=MOEDGE)

    def _mlp(
        self, x: ir.Value, weights: GatedMlp, share: ir.Value | None = None, onto: ir.Value | None = None
    ) -> ir.Value:
        """onto + share * the MLP."""
        b, group = self.builder, weights.group
        wanted, (first, second) = self._schemes.of(group, self.layer), weights.name_biases(b)
        name = b.full_name("gate_up_proj")
        scheme = scheme_for(weights.gate_up, wanted, name, self.notes)
        paired = weights.how.matrices == 2
        rows = (in_turn(weights.gate_up) if paired else weights.gate_up[0],)
        stored = store_tiles(b, name, rows, scheme, self.rounding, group, paired=paired)
        if first and paired:
            first = replace(first, values=first.values.reshape(2, -1).T.reshape(-1))
        inner = self._multiply(x, stored, first, activation=weights.how.kind)
        name = b.full_name("down_proj")
        scheme = scheme_for((weights.down,), wanted, name, self.notes)
        return self._multiply(inner, self.store(name, weights.down, scheme, group), second, share, onto)

    def _multiply(
        self,
        x: ir.Value,
        stored: StoredTiles,
        bias: Vector | None,
        share: ir.Value | None = None,
        onto: ir.Value | None = None,
        activation: str = "none",
    ) -> ir.Value:
        """onto + share * (x · Wᵀ + bias), or in place of the product what an MLP's activation makes of it."""
        inputs = [x, self._tiles(stored), bias.store(self.builder) if bias else None, share, onto]
        more: Attributes = {
            "activation": activation,
            "activation_bits": self.activation_bits,
        }
        return self._run("Linear", drop_absent_last(inputs), stored, more)

    def _tiles(self, stored: StoredTiles) -> ir.Value:
        return self.builder.initializer(stored.region.tensor)

    def _run(self, kind: str, inputs: Sequence[ir.Value | None], stored: StoredTiles, more: Attributes) -> ir.Value:
        """One of the operators over a single matrix."""
        rows, columns = stored.shape
        attributes = stored.format | {"rows": rows // 2 if stored.paired else rows, "columns": columns} | more
        return self.builder.op(kind, *inputs, attributes=attributes, domain=MOEDGE)

    def _route(
        self, x: ir.Value, weights: RouterWeights, top_k: int, router: Router, outputs: Sequence[str | None]
    ) -> tuple[ir.Value, ...]:
        """Scores that select [s, experts] and, where two outputs are named, what each expert would count."""
        b, (experts, hidden) = self.builder, weights.matrix.shape
        biases = (vector.store(b) if vector else None for vector in (weights.bias, weights.correction))
        attributes: Attributes = {
            "experts": experts,
            "hidden": hidden,
            "k": top_k,
            "scoring": "none" if router.weighs_by_logits else router.scoring,
            "normalize": int(router.normalize),
            "eps": router.norm_eps,
            "least_sum": router.norm_min,
            "jitter": router.jitter_eps,
            **({"softcap": router.softcap} if router.softcap else {}),
            "groups": router.n_group,
            "open_groups": router.topk_group,
            "group_best": 2 if router.group_score == "top2" else 1,
        }
        inputs = drop_absent_last([x, weights.store(b), *biases])
        return b.ops("Router", *inputs, attributes=attributes, outputs=outputs, domain=MOEDGE)
