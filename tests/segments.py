"""Graphs of some layers of a checkpoint, each run once from an empty cache."""

from contextlib import ExitStack

import numpy as np
import onnx
import onnxruntime

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.builder import MICROSOFT, Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.fused import FusedLowering
from moedge.export.graph.saving import IR_VERSION
from moedge.export.graph.standard import StandardLowering
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.understanding import understand
from moedge.export.writing.journal import Journal, Recipe
from moedge.export.writing.weights_file import WeightsFile
from moedge.quant.rounding import NEAREST

import onnx_ir as ir  # isort: skip

RECIPE = Recipe("", "", "", "", "", "", 0, "", {})


class Segments:
    """Graphs of some layers of a checkpoint, each run once from an empty cache."""

    def __init__(self, checkpoint, folder, change=lambda model: model, scheme="fp32", context=64, channels=None):
        self.opened, schemes = ExitStack(), parse_plan(scheme)
        self.source = self.opened.enter_context(Checkpoint(checkpoint))
        self.model = change(understand(self.source, ExportOptions(schemes)).model)
        self.folder, self.schemes, self.context, self.channels = folder, schemes, context, channels

    def build(self, begin, end):
        folder = self.folder / f"{begin}-{end}"
        folder.mkdir(parents=True)
        kind = FusedLowering if self.schemes.quantized else StandardLowering
        with Journal(folder, RECIPE, False, True) as journal, WeightsFile(folder, journal) as weights:
            low = kind(Builder(weights), self.schemes, NEAREST, [])
            graph = build_decoder(
                low, self.source, self.model, self.context, begin=begin or None, end=end, channels=self.channels
            )
        graph.opset_imports.update({"": 21, MICROSOFT: 1})
        ir.save(ir.Model(graph, ir_version=IR_VERSION), folder / "model.onnx")
        onnx.checker.check_model(str(folder / "model.onnx"))
        return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def run(self, begin, end, given):
        """The last output of layers begin:end, from token ids [s] or hidden states [s, hidden_size]."""
        session = self.build(begin, end)
        name = "input_ids" if begin == 0 else "hidden_states"
        feeds = {name: given[None], "attention_mask": np.ones((1, len(given)), np.int64)}
        for value in session.get_inputs():
            if value.name.startswith("past_key_values"):
                shape = [{"past_length": 0, "capacity": 64}.get(size, size) for size in value.shape]
                feeds[value.name] = np.zeros(shape, np.float32)
        if end is None:
            feeds["logits_to_keep"] = np.array(len(given), np.int64)
        [out] = session.run(["logits" if end is None else "last_hidden_state"], feeds)
        return out[0]
