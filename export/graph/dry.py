"""The dry run's lowering: it takes every matrix that a decoder hands over, chooses its scheme, and writes nothing.

A lowering sees nothing of a checkpoint but these matrices, so what it takes is what any plan stores.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.builder import Builder
from moedge.export.graph.inputs import MaskInputs
from moedge.export.graph.lowering import CachePort, ExpertWeights, GatedMlp, Norm, Positions, RouterWeights, Routing
from moedge.export.graph.mixer_inputs import Convolved, DeltaInputs, Heads, Latents, MambaInputs, Vector
from moedge.export.graph.positions import build_positions
from moedge.export.graph.qmoe import kernel_gate, up_twice
from moedge.export.graph.storing import scheme_for
from moedge.export.model.config import Experts, GroupedQuery, Mixer, MultiHeadLatent, OutputGate
from moedge.export.model.recurrent import DeltaNet, Mamba2
from moedge.export.model.rope import Rope
from moedge.export.writing.account import Account
from moedge.export.writing.unwritten import UnwrittenFile
from moedge.quant.grids import holds
from moedge.quant.plan import Place, SchemePlan
from moedge.quant.scheme import FP32, Scheme
from moedge.quant.tiles import count_tiles, tile_bytes
from moedge.runtime.manifest import ATTENTION, EMBEDDING, LM_HEAD, ROUTED_EXPERTS, ExpertPlan, GroupName


@dataclass
class DryLowering:
    """Lowers a decoder to nothing; `refusal` is about the first matrices that their scheme does not fit.

    `taken` are the groups whose matrices were handed over to be stored in a scheme.
    """

    schemes: SchemePlan
    plan: ExpertPlan
    builder: Builder = field(default_factory=lambda: Builder(UnwrittenFile()))
    cache: list[CachePort] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    graph_inputs: MaskInputs = field(default_factory=MaskInputs)
    layer: int | None = None
    expert_schemes: Counter[Scheme] = field(default_factory=Counter)
    refusal: MoedgeError | None = None
    taken: set[GroupName] = field(default_factory=set)
    rounded: Counter[Place] = field(default_factory=Counter)  # weights
    costs: Counter[Place] = field(default_factory=Counter)  # bytes of all matrices

    @property
    def account(self) -> Account:
        """What the bundle would hold, and which tensors it would come from."""
        return self.builder.weights.account

    def positions(self, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int) -> Positions:
        where, _ = build_positions(self.builder, self.graph_inputs, tokens, mixers, context)
        return where

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        self._take("model.embed_tokens", (table,), EMBEDDING)
        return input_ids

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        return hidden if matrix is None else self.linear("lm_head", hidden, matrix, LM_HEAD)

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName, bias: Vector | None = None) -> ir.Value:
        self._take(self.builder.full_name(name), (matrix,), group)
        self._store(bias)
        return x

    def mlp(self, x: ir.Value, weights: GatedMlp) -> ir.Value:
        for name, matrices in (("gate_up_proj", weights.gate_up), ("down_proj", (weights.down,))):
            self._take(self.builder.full_name(name), matrices, weights.group)
        self._store(*weights.name_biases(self.builder))
        return x

    def add_shared(self, x: ir.Value, routed: ir.Value, weights: GatedMlp, gate: RouterWeights | None) -> ir.Value:
        with self.builder.scope("shared_experts"):
            if gate:
                gate.store(self.builder)
            return self.mlp(x, weights)

    def route(self, x: ir.Value, weights: RouterWeights, config: Experts) -> Routing:
        weights.store(self.builder)
        self._store(weights.bias, weights.correction, weights.expert_scale)
        return Routing(x, None, config.router.scale)

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        return x, x

    def rope(self, x: ir.Value, heads: int, rope: Rope, where: Positions) -> ir.Value:
        return x

    def grouped_query(self, layer: int, heads: Heads, config: GroupedQuery, where: Positions) -> ir.Value:
        self._store(*heads.vectors)
        return heads.joined

    def open_gate(self, out: ir.Value, gate: ir.Value, how: OutputGate, heads: int, dim: int) -> ir.Value:
        return out

    def latent(self, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        latents.query(latents.joined)
        latents.norm.store(self.builder)
        if self.plan == "native":
            self._take(latents.up, (latents.joint(),), ATTENTION)
        else:
            latents.absorbed()
        return latents.joined

    def convolve(self, layer: int, given: Convolved) -> ir.Value:
        given.store_taps(self.builder)
        self._store(given.bias)
        return given.joined

    def causal_convolution(self, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
        self.builder.matrix(taps.name, taps.values, taps.group)
        self._store(bias)
        return x

    def delta_net(self, layer: int, given: DeltaInputs, config: DeltaNet) -> ir.Value:
        self._store(given.a, given.dt_bias, given.norm)
        return given.mixed

    def mamba2(self, layer: int, given: MambaInputs, config: Mamba2) -> ir.Value:
        self._store(given.a, given.dt_bias, given.d, given.norm)
        return given.mixed

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        first = weights.gate_up
        if self.plan == "fused":
            try:
                kernel_gate(config.gate)
            except MoedgeError as error:
                self.refusal = self.refusal or error
            first = [up_twice(matrix, config.gate) for matrix in first]
        self._take(ROUTED_EXPERTS, (*first, *weights.down), ROUTED_EXPERTS)
        for bias in (weights.gate_up_bias, weights.down_bias):
            if bias is not None:
                self.account.add(ROUTED_EXPERTS, FP32, bias.size, bias.nbytes)
        return x

    def _store(self, *vectors: Vector | None) -> None:
        for vector in vectors:
            if vector:
                vector.store(self.builder)

    def _take(self, what: str, matrices: Sequence[Matrix], group: GroupName) -> None:
        self.taken.add(group)
        try:
            wanted = self.schemes.of(group, self.layer)
            scheme = scheme_for(matrices, wanted, what, self.notes, floats=group == ROUTED_EXPERTS)
        except MoedgeError as error:
            self.refusal, scheme = self.refusal or error, FP32
        place = group, self.layer
        rounded = [s for m in matrices for s in m.sources if scheme.quantized and not holds(scheme, s.native)]
        if rounded:
            self.rounded[place] += sum(source.parameters for source in rounded)
        weights = sum(rows * columns for rows, columns in (matrix.shape for matrix in matrices))
        nbytes = sum(self._nbytes(scheme, *matrix.shape) for matrix in matrices)
        self.costs[place] += nbytes
        self.account.add(group, scheme, weights, nbytes, matrices)

    def _nbytes(self, scheme: Scheme, rows: int, columns: int) -> int:
        if self.plan == "native" and scheme.quantized:
            return count_tiles(rows) * tile_bytes(scheme, columns)
        return scheme.nbytes(rows, columns)
