"""Four answers at once are sooner there than one after the other, and are the same."""

import time

import pytest
import tiny_models as tiny
from native import needs_kernels
from scheduling import text_of

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler

SHAPE = {"vocab_size": 2048, "hidden_size": 256, "moe_intermediate_size": 128, "num_hidden_layers": 4}
PARAMS = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
TRIES = 4  # the quickest counts


@needs_kernels
def test_four_together_give_more_tokens_a_second_and_the_same_ones(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(**SHAPE), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("balanced"), "native"))
    engine = Engine.load(tmp_path / "bundle", sessions=4)
    prompts = [[2 + n, 100 * n + 7, 5] for n in range(4)]

    def measure(places):
        scheduler = Scheduler(engine, places, 4, prefix_budget_bytes=0)
        try:
            began = time.perf_counter()
            answers = [text_of(ticket) for ticket in [scheduler.submit(prompt, PARAMS) for prompt in prompts]]
            return answers, time.perf_counter() - began
        finally:
            scheduler.close()

    together, in_turn = list[float](), list[float]()
    for _ in range(TRIES):
        answers, seconds = measure(1)
        in_turn.append(seconds)
        same, seconds = measure(4)
        together.append(seconds)
        assert same == answers
        if min(together) < 0.9 * min(in_turn):
            return
    pytest.fail(f"together {together}, in turn {in_turn}")
