"""A bundle layer by layer: its graph with hidden states and routers' scores given out, run by the runtime.

The values are found by what the graph says of itself: the weights of norms and the scores of routers carry names. If a
graph lacks one of them there are no figures by layer, rather than guessed ones.
"""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.profile import Profile
from moedge.export.model.config import ModelConfig
from moedge.quant.blocks import F32
from moedge.quant.fidelity import choose_top
from moedge.runtime.manifest import MODEL_NAME, Manifest
from moedge.runtime.program import Program, library_of, session_options

# Norms that add, and which of their outputs is the sum.
_SUMS = {"SkipSimplifiedLayerNormalization": 3, "SkipLayerNormalization": 3, "AddNorm": 1}
# What a router selects by is the last of these that its layer has: see export/graph/routing.py.
_SCORES = ("router_logits", "selection_scores", "selection_scores_in_groups")


class TappedBundle:
    """A loaded copy of the graph that gives out `taps`, the values that `find_taps` names."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        profile: Profile,
        graph: onnx.ModelProto,
        taps: tuple[Sequence[str], Sequence[str]],
    ) -> None:
        self._hidden, self._scores = taps
        for name in (*self._hidden, *self._scores):
            graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        options = session_options(profile, library_of(manifest.experts.plan))
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._program = Program(session, manifest, profile)
        self._facts, self._chunk = manifest.model, profile.prefill_chunk

    def run(self, ids: NDArray[np.int64]) -> tuple[F32, NDArray[np.int64]]:
        """Hidden states after each layer [layers, n, hidden_size], experts of each MoE layer [moe layers, n, top_k]."""
        n, facts = len(ids), self._facts
        hidden = np.empty((len(self._hidden), n, facts.hidden_size), np.float32)
        scores = np.empty((len(self._scores), n, facts.num_experts), np.float32)
        cache = self._program.open_cache()
        lane = self._program.open_lane(cache)
        for start in range(0, n, self._chunk):
            end = min(start + self._chunk, n)
            for names, arrays in ((self._hidden, hidden), (self._scores, scores)):
                for name, array in zip(names, arrays, strict=True):
                    part = array[start:end]
                    lane.binding.bind_output(name, "cpu", 0, np.float32, part.shape, part.ctypes.data)
            self._program.run(lane, ids[start:end].tolist(), start)
            cache.trim(end)
        chosen = [choose_top(layer, facts.num_experts_per_tok) for layer in scores]
        return hidden, np.array(chosen, np.int64).reshape(len(chosen), n, facts.num_experts_per_tok)


def tap_bundle(folder: Path, manifest: Manifest, profile: Profile, model: ModelConfig) -> TappedBundle | None:
    """The bundle's graph with its taps; None if they are not to be found in it."""
    graph = onnx.load(folder / MODEL_NAME, load_external_data=False)
    taps = find_taps(graph.graph, model)
    return None if taps is None else TappedBundle(folder, manifest, profile, graph, taps)


def find_taps(graph: onnx.GraphProto, model: ModelConfig) -> tuple[list[str], list[str]] | None:
    """The values' names: hidden states after each layer, and scores by which each MoE layer selects its experts."""
    makers = {value: node for node in graph.node for value in node.output}
    readers = {value: node for node in graph.node for value in node.input}
    names, layers = model.names, model.num_hidden_layers
    norms = [*(names.input_norm.format(layer=layer) for layer in range(1, layers)), names.final_norm]
    hidden = [_find_read(f"{norm}.weight", readers, makers) for norm in norms]
    scores = [_find_scores(names.mlp.format(layer=layer), makers) for layer in model.moe_layers]
    found = [name for name in (*hidden, *scores) if name is not None]
    if len({*found}) < layers + len(model.moe_layers):
        return None
    return found[:layers], found[layers:]


def _find_read(weight: str, readers: Mapping[str, Any], makers: Mapping[str, Any]) -> str | None:
    """The hidden states that the norm with this weight reads."""
    norm = readers.get(weight)
    if norm is None:
        return None
    if (place := _SUMS.get(norm.op_type)) is not None:
        return str(norm.output[place]) if len(norm.output) > place else None
    read = norm.input[0]
    if norm.op_type == "Mul":  # of x / root(mean(x²) + eps)
        division = makers.get(read)
        if division is None or division.op_type != "Div":
            return None
        read = division.input[0]
    elif norm.op_type != "LayerNormalization":
        return None
    cut = makers.get(read)  # before the head, the wanted rows alone
    return str(cut.input[0] if cut is not None and cut.op_type in ("Slice", "Gather") else read)


def _find_scores(scope: str, makers: Container[str]) -> str | None:
    return next((f"{scope}.{name}" for name in reversed(_SCORES) if f"{scope}.{name}" in makers), None)
