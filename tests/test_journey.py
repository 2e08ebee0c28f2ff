"""docs/journey.md against what runs: a real request and a real export pass the files that it names."""

import gc
import re

import pytest
import quantized_checkpoints as quantized
import tiny_models as tiny
from tiny_bundle import engine_that_says
from traced import ROOT, files_run

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

PAGE = (ROOT / "docs" / "journey.md").read_text(encoding="utf-8")
# Of the export, but not on the matrix's way: other families, the small files, the rest of the graph.
BESIDE = (
    "export/families/", "export/tokenizer/", "export/graph/", "export/model/rope.py", "export/model/layer_kinds.py",
    "export/process_memory.py", "export/genai_config.py", "export/calibration/beside_export.py", "devices/",
)  # fmt: skip


def named_in(section: str) -> set[str]:
    """The files of the table of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0].split("\nIn a `native` bundle")[0]
    return set(re.findall(r"`([a-z_/0-9]+\.py)`", text))


def test_every_file_is_there():
    names = re.findall(r"`([a-z_/0-9]+\.(?:py|cpp|h|inc))`", PAGE)
    assert {name.rpartition(".")[2] for name in names} == {"py", "cpp", "h", "inc"}
    for name in names:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize(
    ("file", "made", "used"),
    [
        ("operators.cpp", "ExpertsKernel", ("run_experts(", "chosen_kernels(")),
        ("experts.cpp", "bool run_experts(", ("multiply(", "activate(", "accumulate(")),
        ("choose.cpp", "chosen_kernels(", ("AVX512VNNI",)),
        ("isa_avx512vnni.cpp", "Kernels AVX512VNNI", ('"shared.inc"', '"multiply.inc"')),
    ],
)
def test_a_node_of_experts_passes_the_sources_of_the_page(file, made, used):
    """As far as words tell: each has what the one before it uses."""
    assert f"`runtime/kernels/{file}`" in PAGE
    text = (ROOT / "runtime" / "kernels" / file).read_text(encoding="utf-8")
    assert [word for word in (made, *used) if word not in text] == []


def test_a_token_passes_the_files_of_the_page(tmp_path):
    service = Service()

    def ask() -> None:
        service.open(engine_that_says(tmp_path / "bundle", "hello"))
        client = create_app(service, Guard()).test_client()
        messages = [{"role": "user", "content": "hi"}]
        reply = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 4, "stream": True})
        assert reply.text.endswith("data: [DONE]\n\n")
        service.close()

    engine_that_says(tmp_path / "first", "hello")  # imports and the probe are no part of the way
    ran = set(files_run(ask))
    named = named_in("A token") - {"edge_server/server.py"}  # the sockets, which the test client has not
    assert named <= ran
    loading = {
        "edge_server/responses/responses.py",  # its routes, and what they keep
        "edge_server/responses/responses_store.py",
        "runtime/settling.py",
        "runtime/integrity.py",
        "runtime/kernel_probe.py",
        "runtime/memory_need.py",
        "runtime/sizes.py",
    }
    assert {path for path in ran - named if not path.startswith("devices/")} <= loading


def test_a_matrix_passes_the_files_of_the_page(tmp_path):
    tiny.save_checkpoint(tiny.deepseek_v3(), tmp_path / "checkpoint", 0)
    encoder, config = quantized.packed()
    quantized.convert(tmp_path / "checkpoint", quantized.EXPERTS, encoder, config)
    options = ExportOptions(parse_plan("int4"), "native")
    gc.collect()  # what other tests have left is no part of the way
    ran = files_run(lambda: export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options))
    named = named_in("A matrix")
    assert named <= set(ran)
    assert [path for path in ran if path not in named and not path.startswith(BESIDE)] == []
