"""A finished graph becomes a file: operator sets, the IR's version, and no node that nobody needs."""

from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from moedge.export.graph.builder import MICROSOFT, MOEDGE

# ONNX Runtime reads IR versions up to its own onnx; 10 came with opset 21 and is what onnxruntime-genai reads too.
IR_VERSION = 10


def save_graph(graph: ir.Graph, path: Path) -> None:
    """Write the graph as an ONNX model whose weights are wherever its tensors say."""
    domains = {node.domain for node in graph.all_nodes()}
    graph.opset_imports.update({"": 21, **{domain: 1 for domain in (MICROSOFT, MOEDGE) if domain in domains}})
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="moedge", producer_version=version("moedge"))
    RemoveUnusedNodesPass()(model)
    ir.save(model, path)
