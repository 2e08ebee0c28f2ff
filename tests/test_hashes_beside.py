"""Hashes are checked beside loading and the first run: nothing of a damaged bundle is seen, and it is told in words."""

import io
import subprocess
import sys
import threading
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import tiny_models as tiny
from native import needs_kernels
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine, SamplingParams, integrity, progress
from moedge.runtime import engine as engine_module
from moedge.runtime.cli import main
from moedge.runtime.integrity import HashCheck, open_bundle, say_nothing
from moedge.runtime.program import Interrupted, Program

DAMAGED = (
    r"is not intact, 'weights.bin' is not as it was written \(its sha256 does not match\): copy or export it again"
)
PLANS = ("if", "fused", pytest.param("native", marks=needs_kernels))


def flip(path, place, bit=3):
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def export(folder, plan="fused", scheme="int4"):
    tiny.save_checkpoint(tiny.qwen3_moe(), folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan(scheme), plan))
    return folder / "bundle"


def load_beside(bundle, on_hashed=say_nothing):
    """An engine whose bundle is still being checked."""
    hashes = HashCheck(bundle, open_bundle(bundle, check_hashes=False), on_hashed)
    return Engine.load(bundle, allow_slow=True, hashes=hashes)


@pytest.fixture
def bundle(tmp_path):
    return export(tmp_path)


class Held:
    """A check that stops at the weights until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.calls = []

    def __call__(self, done, total):
        self.calls.append((done, total))
        if threading.current_thread().name == "moedge-hashes":
            assert self.go.wait(60)


def test_what_is_damaged_gives_no_logits(bundle):
    flip(bundle / "weights.bin", 5)
    engine = load_beside(bundle)
    for run in (
        lambda: engine.session().prefill([5, 6, 7]),
        lambda: engine.score([5, 6, 7]),
        lambda: next(engine.generate([5, 6], SamplingParams(max_tokens=2))),
        engine.prove,
    ):
        with pytest.raises(MoedgeError, match=DAMAGED):
            run()
    with pytest.raises(MoedgeError, match=DAMAGED):
        Engine.load(bundle, allow_slow=True)
    Engine.load(bundle, allow_slow=True, check_hashes=False).session().prefill([5, 6, 7])


def test_damage_is_told_before_what_it_makes_of_logits(bundle):
    """Numbers that are none, which would be told as a fault of the machine."""
    size = (bundle / "weights.bin").stat().st_size
    (bundle / "weights.bin").write_bytes(b"\xff" * size)
    with pytest.raises(MoedgeError, match="not numbers"):
        list(Engine.load(bundle, allow_slow=True, check_hashes=False).generate([5], SamplingParams(max_tokens=2)))
    with pytest.raises(MoedgeError, match=DAMAGED):
        list(load_beside(bundle).generate([5], SamplingParams(max_tokens=2)))


def test_damage_is_told_before_what_it_makes_of_loading(bundle, monkeypatch):
    def fail(*_):
        raise MoedgeError("onnxruntime cannot load it.")

    monkeypatch.setattr(Program, "load", fail)
    with pytest.raises(MoedgeError, match="onnxruntime cannot load it"):
        Engine.load(bundle, allow_slow=True)
    flip(bundle / "weights.bin", 5)
    with pytest.raises(MoedgeError, match=DAMAGED):
        load_beside(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "generation_config.json"])
def test_what_is_parsed_is_checked_before(tmp_path, monkeypatch, name):
    bundle = write_tiny_bundle(tmp_path)
    monkeypatch.setattr(Program, "load", lambda *_: pytest.fail("it was parsed"))
    flip(bundle / name, 1)
    with pytest.raises(MoedgeError, match=f"'{name}' is not as it was written"):
        Engine.load(bundle)


@pytest.mark.parametrize("size", [-1, 1])
def test_another_size_is_seen_at_once(bundle, monkeypatch, size):
    monkeypatch.setattr(Program, "load", lambda *_: pytest.fail("it was loaded"))
    whole = (bundle / "weights.bin").read_bytes()
    (bundle / "weights.bin").write_bytes(whole[:size] if size < 0 else whole + b"x")
    with pytest.raises(MoedgeError, match=r"'weights\.bin' has \d+ bytes, the manifest says"):
        load_beside(bundle)


def test_a_run_begins_before_the_check_ends_and_ends_after_it(bundle, monkeypatch):
    held, ran = Held(), threading.Event()
    engine = load_beside(bundle, held)
    run = Program.run
    monkeypatch.setattr(Program, "run", lambda *given: (run(*given), ran.set()))
    tokens = []
    thread = threading.Thread(target=lambda: tokens.extend(engine.generate([5, 6], SamplingParams(max_tokens=3))))
    thread.start()
    assert ran.wait(60)
    assert tokens == []
    held.go.set()
    thread.join(60)
    assert len(tokens) == 3
    assert held.calls[-1][0] == held.calls[-1][1] == sum(f.size for f in engine.manifest.files.values())
    assert [done for done, _ in held.calls] == sorted(done for done, _ in held.calls)


@pytest.mark.parametrize(
    "work",
    [
        lambda engine, ids: engine.session().prefill(ids),
        lambda engine, ids: list(engine.generate(ids, SamplingParams(max_tokens=1))),
    ],
    ids=["prefill", "generate"],
)
def test_a_whole_prompt_runs_before_the_check_ends(bundle, monkeypatch, work):
    """Only its last chunk has logits that are wanted."""
    held, run, lengths, last, given = Held(), Program.run, [], threading.Event(), []

    def count(program, lane, token_ids, *others):
        run(program, lane, token_ids, *others)
        lengths.append(len(token_ids))
        if lengths == [4, 4, 2]:
            last.set()

    monkeypatch.setattr(Program, "run", count)
    engine = load_beside(bundle, held)
    engine.profile = replace(engine.profile, prefill_chunk=4)
    thread = threading.Thread(target=lambda: given.append(work(engine, [5 + i for i in range(10)])))
    thread.start()
    try:
        assert last.wait(20)
        assert given == []
    finally:
        held.go.set()
        thread.join(60)
    assert len(given) == 1


def test_who_waits_for_the_check_can_be_interrupted(bundle):
    held = Held()
    engine = load_beside(bundle, held)
    session, raised, ran = engine.session(), [], threading.Event()

    def work():
        session.clear_interrupt()
        ran.set()
        try:
            session.prefill([5, 6, 7])
        except Interrupted as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert ran.wait(60)
    session.interrupt()
    thread.join(60)
    assert len(raised) == 1
    assert session.length == 0
    held.go.set()
    first = session.prefill([5, 6, 7])
    assert np.array_equal(first, engine.session().prefill([5, 6, 7]))


def test_a_check_that_nobody_waits_for_ends(bundle, monkeypatch):
    """Of a load that fails, for whatever reason, and of a context that is left."""
    monkeypatch.setattr(integrity, "CHUNK_BYTES", 64)
    manifest = open_bundle(bundle, check_hashes=False)
    threads = set(threading.enumerate())

    def ended(held):
        [thread] = [each for each in threading.enumerate() if each not in threads]
        held.go.set()
        thread.join(60)
        done, total = held.calls[-1]
        return not thread.is_alive() and done < total

    held = Held()
    with HashCheck(bundle, manifest, held):
        pass
    assert ended(held)
    for error in (MoedgeError("no memory"), KeyboardInterrupt()):
        monkeypatch.setattr(engine_module, "check_memory", Mock(side_effect=error))
        held = Held()
        with pytest.raises(type(error)):
            Engine.load(bundle, hashes=HashCheck(bundle, manifest, held))
        assert ended(held)


def test_run_ends_its_check(bundle, monkeypatch):
    closed, close = [], HashCheck.close
    monkeypatch.setattr(HashCheck, "close", lambda self: (closed.append(self), close(self)))
    monkeypatch.setattr(Engine, "load", Mock(side_effect=MoedgeError("no")))
    assert main(["run", str(bundle), "hello", "--raw"]) == 1
    assert len(closed) == 1


def test_a_bar_that_is_gone_stays_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    for key in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(progress, "BIG_BYTES", 1)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bytes_progress("check") as show:
        show(1, 10)
    before = sys.stderr.getvalue()
    assert "check" in before
    show(2, 10)
    assert sys.stderr.getvalue() == before
    assert before.rfind("\x1b[?25l") < before.rfind("\x1b[?25h")


DAMAGE = """
import sys, random
from pathlib import Path
from moedge.runtime import Engine
from moedge.runtime.integrity import HashCheck, open_bundle
folder = Path(sys.argv[1])
path = folder / "weights.bin"
whole = path.read_bytes()
for seed in range(12):
    rng, broken = random.Random(seed), bytearray(whole)
    for _ in range(1 if seed % 2 else 2000):
        broken[rng.randrange(len(whole))] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    path.write_bytes(broken)
    try:
        hashes = HashCheck(folder, open_bundle(folder, check_hashes=False))
        Engine.load(folder, allow_slow=True, hashes=hashes).session().prefill([5, 6, 7, 8])
    except Exception as error:
        assert broken != whole and "'weights.bin' is not as it was written" in str(error), error
    else:
        assert broken == whole
print("told")
"""


@pytest.mark.parametrize(
    ("plan", "scheme"),
    [
        ("if", "fp32"),
        ("if", "balanced"),
        ("fused", "balanced"),
        pytest.param("native", "balanced", marks=needs_kernels),
    ],
)
def test_no_damage_of_weights_ends_the_process(tmp_path, plan, scheme):
    bundle = export(tmp_path, plan, scheme)
    done = subprocess.run([sys.executable, "-c", DAMAGE, bundle], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
