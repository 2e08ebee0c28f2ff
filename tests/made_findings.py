"""Findings of a run of `moedge profile` that never was, with made-up figures."""

from dataclasses import replace
from pathlib import Path

from moedge.devices.cores import Cluster
from moedge.devices.detect import Machine
from moedge.runtime.bench.results import DecodeRate, FirstToken, PromptRate, Question
from moedge.runtime.bench.spread import Spread
from moedge.runtime.profiling.attention_rates import AttentionRates
from moedge.runtime.profiling.choosing_settings import NeighbourTime, apply
from moedge.runtime.profiling.energy import Energy
from moedge.runtime.profiling.expert_usage import ExpertUsage
from moedge.runtime.profiling.findings import Findings, ThreadBandwidth
from moedge.runtime.profiling.heat import HeatMoment
from moedge.runtime.profiling.layer_rates import LayerRates
from moedge.runtime.profiling.measured_profile import usual_profile
from moedge.runtime.profiling.model_rates import ModelRates, Predicted
from moedge.runtime.profiling.operator_times import OperatorTime, OperatorTimes
from moedge.runtime.profiling.setting_trials import SettingTrial
from moedge.runtime.profiling.stock_rates import OperatorRate, StockRates
from moedge.runtime.profiling.storage_rates import StorageRate, StorageRates
from moedge.runtime.profiling.timing import Measured

MACHINE = Machine(
    architecture="x86_64",
    cpu='Some "fast" CPU <16> \\ Ω',
    board="",
    isa=("sse4_1", "avx", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    logical_cpus=8,
    cores=4,
    fast_cores=4,
    cpu_quota=None,
    memory_bytes=16 << 30,
    memory_limit_bytes=None,
    clusters=(Cluster("Some core", 4, 3000),),
    fast_cpus=(0, 2, 4, 6),
)
PI = replace(
    MACHINE,
    architecture="aarch64",
    cpu="Cortex-A76",
    board="Raspberry Pi 5 Model B Rev 1.0",
    isa=("asimd", "fphp", "asimdhp", "asimddp"),
    memory_bytes=8 << 30,
    clusters=(Cluster("Cortex-A76", 4, 2400),),
)


def around(value: float, runs: int = 9) -> Measured:
    return Measured(value, 0.9 * value, 1.1 * value, runs)


def spread(value: float) -> Spread:
    return Spread(value, 0.9 * value, 1.1 * value)


KEPT = SettingTrial("decode_threads", "4", "3", around(1.08), None, True, "1.08 times as fast in 9 paired runs")
TRIALS = (
    KEPT,
    SettingTrial("prefill_threads", "4", "3", around(0.8), None, False, "0.80 times as fast: less than 1.03"),
    SettingTrial("affinity", "all", "", None, None, False, "all cores are alike: nothing to choose"),
    SettingTrial("awake_us", "100", "0", around(1.05), around(0.7), False, "1.05, but 0.70 beside a busy neighbour"),
)


def model_rates() -> ModelRates:
    question = Question((128, 512), 32, (0, 512), 3)
    decode = tuple(DecodeRate(depth, spread(30 - depth / 100), 33, 40, 51, None, None, None) for depth in (0, 512))
    return ModelRates(
        name="a <model>",
        scheme="balanced",
        expert_plan="native",
        question=question,
        prompts=tuple(PromptRate(length, spread(300)) for length in (128, 512)),
        first_token=FirstToken(128, 0.0, spread(0.4), spread(0.1), 112),
        decode=decode,
        predicted=(Predicted("decode at depth 0", 30, 33),),
        token_macs=300_000_000,
        token_bytes=200_000_000,
        chunk_tokens=512,
        chunk_bytes=900_000_000,
        predicted_decode=((0, 33.0), (512, 29.0)),
    )


def findings(machine: Machine = MACHINE, with_model: bool = True) -> Findings:
    usual = usual_profile(machine)
    qmoe = [
        OperatorRate("QMoE", "int4", "64 experts", rows, around(rate), around(rate / per), per)
        for rows, rate, per in ((1, 8e9, 1.6), (256, 90e9, 51.0))
    ]
    return Findings(
        date="2026-11-27",
        versions={"moedge": "0.1.0"},
        machine=machine,
        kernels="avx2",
        usual=usual,
        settings=apply(usual, TRIALS),
        bandwidth=(ThreadBandwidth(1, around(11e9, 8), ""), ThreadBandwidth(4, around(30e9, 8), "")),
        storage=StorageRates(
            tuple(StorageRate(b, q, around(b * q * 300.0)) for b in (4096, 1 << 20) for q in (1, 4)),
            64 << 20,
            "past it",
        ),
        stock=StockRates(tuple(qmoe), around(5e-7)),
        layers=LayerRates(
            *(around(20e9), around(250e9), around(5e-5), around(0.007)),
            140_000_000,
            240_000_000,
            around(0.4),
            512,
            10**9,
        ),
        attention=AttentionRates(around(14e9), around(35e9), around(130e9)),
        between_steps=around(6e-5),
        trials=TRIALS,
        neighbour=(NeighbourTime(0, 0.012, 0.02), NeighbourTime(100, 0.011, 0.021)),
        heat=(HeatMoment("before", 0.0, 2400.0, 51.5, ""), HeatMoment("after", 60.0, 1800.0, 84.0, "throttled")),
        discarded=("layers: throttled; measured again after 8 s",),
        energy=Energy("RAPL", 5.5, 0.2, 0.9) if with_model else None,
        model=model_rates() if with_model else None,
        operators=OperatorTimes(
            256, (OperatorTime("Experts", 0.4, 0.02, 24), OperatorTime("between operators", 0.001, 0.002, 0))
        )
        if with_model
        else None,
        usage=ExpertUsage((1, 2), ((5, 0, 3, 1), (0, 0, 9, 0)), 9) if with_model else None,
        others=0.0,
        seconds=120.0,
        left_out=() if with_model else ("energy: not measured: no RAPL",),
    )


def write_tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root
