"""Disks that fill, memory that is not there, exports that are killed: the old bundle or the new one, and numbers."""

import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tiny_models as tiny

from moedge.runtime.integrity import check_bundle
from moedge.runtime.manifest import read_manifest

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "edge_assistant" / "checkpoint"  # what a disk is filled with
KILLS = 50
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
from moedge.runtime.cli import main
sys.exit(main(sys.argv[3:]))
"""


def problems(bundle):
    return check_bundle(bundle, lambda done, total: None)


def test_killed_exports(tmp_path, row):
    checkpoint, target = tmp_path / "checkpoint", tmp_path / "bundle"
    tiny.save_checkpoint(tiny.qwen3_moe(), checkpoint, 0)  # so that fifty fit into a minute or two
    command = [sys.executable, "-m", "moedge.export", str(checkpoint), "-o", str(target), "--force", "--scheme"]
    subprocess.run([*command, "int4"], check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run([*command, "int8"], check=True, capture_output=True)
    whole = time.monotonic() - began
    rng, schemes, killed = random.Random(0), {}, 0
    for number in range(KILLS):
        process = subprocess.Popen(
            [*command, ("int4", "int8")[number % 2]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(whole * rng.uniform(0.4, 1.1))
        killed += process.poll() is None
        process.kill()
        process.wait()
        assert problems(target) == []
        scheme = read_manifest(target).scheme
        schemes[scheme] = schemes.get(scheme, 0) + 1
    subprocess.run([*command, "int4"], check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]
    row(
        "kill −9 during export",
        f"{KILLS} random moments of an export of {whole:.1f} s that replaces a bundle",
        "the old or the new bundle verifies, never a mixture",
        f"{KILLS} of {KILLS} verify, {killed} died in the middle; the next export leaves nothing of them behind",
        killed > 0,
    )


def test_a_full_disk(tmp_path, row):
    target, told = tmp_path / "bundle", []
    for limit in (1 << 10, 1 << 14, 1 << 18, 1 << 20, 4 << 20):
        shutil.rmtree(target, ignore_errors=True)
        command = [
            sys.executable,
            "-c",
            LIMITED,
            "RLIMIT_FSIZE",
            str(limit),
            "export",
            str(CHECKPOINT),
            "-o",
            str(target),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1, (limit, done.stderr)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not list(tmp_path.iterdir()), limit
        told.append(done.stderr.strip())
    named = [line for line in told if re.search(r"\d", line) and str(tmp_path) in line]
    row(
        "disk full",
        f"RLIMIT_FSIZE of {len(told)} sizes",
        "exit ≠ 0, path and bytes named, target untouched",
        f"{len(told)} of {len(told)} exit 1 in one sentence and leave nothing; {len(named)} name path and bytes",
        len(named) == len(told),
    )


def test_too_little_memory(bundle, tmp_path, row):
    """Limits of address space, which counts what is mapped too: refused, or stays under it."""
    outcomes = []
    need = _peak(bundle)
    for share in (50, 60, 70, 80, 90):
        outcomes.append(f"{share} %: {_outcome(bundle, need * share // 100)}")
    row(
        "memory below need",
        f"address space of 50–90 % of what `moedge run` takes ({need >> 20} MiB)",
        "refused before loading with the numbers, or stays under the limit",
        "; ".join(outcomes),
        all("crash" not in outcome for outcome in outcomes),
    )
    assert not [outcome for outcome in outcomes if "signal" in outcome or "served" in outcome]


def _peak(bundle):
    code = (
        "import sys\nfrom moedge.runtime.cli import main\ncode = main(sys.argv[1:])\n"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmPeak')).split()[1], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(bundle), "hi", "--max-tokens", "4"], capture_output=True, text=True
    )
    return int(done.stderr.split()[-1]) << 10


def _outcome(bundle, limit):
    command = [sys.executable, "-c", LIMITED, "RLIMIT_AS", str(limit), "run", str(bundle), "hi", "--max-tokens", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    if done.returncode == 0:
        return "stays under it"
    return "refused in a sentence" if last.startswith("moedge: ") else f"crash ({last[:60]})"
