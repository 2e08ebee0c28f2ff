"""What streams: the memory of an export depends on an expert, of a streamed model on a layer, never on the whole."""

import subprocess
import sys
from dataclasses import replace

from random_checkpoint import Shape, write_random_checkpoint

SHAPE = Shape(512, 256, 48, 4, 5, 8, 2, 64, 16384)


def test_peak_memory_does_not_follow_the_checkpoint(tmp_path):
    write_random_checkpoint(tmp_path / "checkpoint", SHAPE)
    code = (
        "import sys, pathlib\n"
        "from moedge.export.bundle import export_bundle\n"
        "from moedge.export.options import ExportOptions\n"
        "from moedge.export.process_memory import peak_resident_bytes\n"
        "from moedge.export.schemes import parse_plan\n"
        "before = peak_resident_bytes()\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "export_bundle(folder / 'checkpoint', folder / 'bundle', ExportOptions(parse_plan('int4')))\n"
        "print(before, peak_resident_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    before, peak = map(int, done.stdout.split())
    layer = SHAPE.num_experts * 3 * SHAPE.hidden_size * SHAPE.moe_intermediate_size * 2
    checkpoint = sum(p.stat().st_size for p in (tmp_path / "checkpoint").glob("*.safetensors"))
    assert checkpoint > 5 * layer
    assert peak <= 2 * layer + (500 << 20)
    assert peak - before < checkpoint / 1.5, f"{(peak - before) >> 20} MiB for {checkpoint >> 20} MiB"
    print(f"{(peak - before) >> 20} MiB above {before >> 20} MiB for a checkpoint of {checkpoint >> 20} MiB")


def test_a_streamed_model_takes_the_memory_of_a_layer(tmp_path):
    write_random_checkpoint(tmp_path / "checkpoint", replace(SHAPE, vocab_size=260, num_experts=32))
    code = (
        "import sys, pathlib, numpy\n"
        "from moedge.export.checkpoint.folder import Checkpoint\n"
        "from moedge.export.options import ExportOptions\n"
        "from moedge.export.process_memory import peak_resident_bytes\n"
        "from moedge.export.streaming.streamed_model import StreamedModel\n"
        "from moedge.export.understanding import understand\n"
        "from moedge.quant.scheme import FP32\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with Checkpoint(folder / 'checkpoint') as source:\n"
        "    model = understand(source, ExportOptions(FP32)).model\n"
        "    print(peak_resident_bytes())\n"
        "    with StreamedModel(source, model, numpy.full((2, 64), 40), folder) as stream:\n"
        "        for _ in range(model.num_hidden_layers):\n"
        "            stream.run_layer()\n"
        "            print(peak_resident_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    before, first, *_, last = map(int, done.stdout.split())
    layer = 4 * 32 * 3 * SHAPE.hidden_size * SHAPE.moe_intermediate_size  # fp32
    assert first - before < 3 * layer  # mapped, and packed for the kernel
    assert last - first < 2 * layer, f"{(last - first) >> 20} MiB more for 4 more layers of {layer >> 20} MiB"
