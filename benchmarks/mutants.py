"""Do the tests prove? Mutation testing by sample: cosmic-ray makes one small change, the tests that reach it must fail.

    make mutants                                      # 60 mutants of quant, runtime and export/graph each
    make mutants MUTANTS=200 FOLDERS="quant" JOBS=2   # SEED=1 draws others

Works in copies of the tree under build/mutants/. First every test file runs once by itself under coverage: that says
which test files reach which line. Then places are drawn by lot, with one mutant each (cosmic-ray knows up to eleven for
an operator, which would count eleven times). A mutant meets the test files that reach its statement, those first that
say most in a second, until one fails or those that fit in `SECONDS` have passed, within a time limit of thrice that.

Annotations are not mutated. A line that only other processes of a test execute counts as reached by none.
"""

import argparse
import ast
import hashlib
import json
import os
import queue
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData

ROOT = Path(__file__).absolute().parents[1]
BUILD = ROOT / "build" / "mutants"
STAGES = ("devices", "quant", "export", "runtime", "edge_server")
PYTEST = "-m pytest -qx -p no:cacheprovider --hypothesis-profile=mutants --hypothesis-seed=0"
# Not asked: they are about files of the repository and installed wheels.
NOT_ASKED = ("test_house.py", "test_optimum_cli.py")
SECONDS = 60.0


@dataclass(frozen=True)
class Reach:
    """What one test file reaches in its `seconds`: the lines of each source file that it executes."""

    seconds: float
    lines: dict[str, set[int]]


def copy_tree(name: str) -> Path:
    """A copy of the working tree in which `moedge` is the copy's own folders, whatever is installed."""
    tree = BUILD / name
    shutil.rmtree(tree, ignore_errors=True)
    no = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info", ".*")
    shutil.copytree(ROOT, tree, ignore=no)
    (tree / "build" / "path" / "moedge").mkdir(parents=True)
    for stage in STAGES:
        (tree / "build" / "path" / "moedge" / stage).symlink_to(tree / stage)
    return tree


def inside(tree: Path, words: str) -> str:
    """A command that runs Python in the copy."""
    return f"cd {shlex.quote(str(tree))} && PYTHONPATH=build/path {shlex.quote(sys.executable)} {words}"


def measure(tree: Path, folders: list[str]) -> dict[str, Reach]:
    """Each test file that passes, run by itself; kept for the next run over the same files."""
    digest = hashlib.sha256(" ".join(folders).encode())
    for path in sorted(tree.rglob("*.py")):
        digest.update(path.read_bytes())
    table = BUILD / f"reach-{digest.hexdigest()[:16]}.json"
    if not table.exists():
        found = {}
        for test in sorted(path.name for path in (tree / "tests").glob("test_*.py") if path.name not in NOT_ASKED):
            data = tree / "build" / "coverage"
            data.unlink(missing_ok=True)
            trace = f"-m coverage run --rcfile=/dev/null --data-file={data} --source={','.join(STAGES)}"
            begun = time.monotonic()
            run = inside(tree, f"{trace} {PYTEST} tests/{test}")
            done = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=False)
            seconds = time.monotonic() - begun
            print(
                f"{seconds:6.1f} s  {test}" + ("" if done.returncode == 0 else ": does not pass, is not asked"),
                flush=True,
            )
            if done.returncode != 0:
                print(done.stdout[-2000:], flush=True)
                continue
            executed = CoverageData(str(data))
            executed.read()
            lines = {str(Path(file).relative_to(tree)): executed.lines(file) for file in executed.measured_files()}
            found[test] = {"seconds": seconds, "lines": {file: here for file, here in lines.items() if here}}
        table.write_text(json.dumps(found))
    return {
        test: Reach(entry["seconds"], {file: set(lines) for file, lines in entry["lines"].items()})
        for test, entry in json.loads(table.read_text()).items()
    }


def tests_for(file: str, lines: range, reaches: dict[str, Reach]) -> list[str]:
    """The test files that execute one of `lines` beyond what importing the file executes, the most telling first."""
    loaded = {test: reach.lines[file] for test, reach in reaches.items() if file in reach.lines}
    imported = set.intersection(*loaded.values()) if len(loaded) > 1 else set()
    own = {test: executed - imported for test, executed in loaded.items() if executed - imported}
    reached = {test: executed for test, executed in own.items() if executed & set(lines)}
    if imported & set(lines):  # a constant or the like: whoever executes a function of the file may hear of it
        reached = own
    ranked = sorted(reached, key=lambda test: -len(reached[test]) / reaches[test].seconds)
    asked, spent = [], 0.0
    for test in ranked:
        if not asked or spent + reaches[test].seconds <= SECONDS:
            asked.append(test)
            spent += reaches[test].seconds
    return asked


def statement_at(tree: ast.AST, line: int) -> range:
    """The lines of the innermost statement at a line."""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno]
    inner = min(around, key=lambda node: node.end_lineno - node.lineno)
    return range(inner.lineno, inner.end_lineno + 1)


def annotated(tree: ast.AST, at: tuple[int, int]) -> bool:
    """Whether a position is within an annotation, where every mutant fails at import or means nothing."""
    for node in ast.walk(tree):
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if note and (note.lineno, note.col_offset) <= at < (note.end_lineno, note.end_col_offset):
                return True
    return False


def draw(tree: Path, folder: str, count: int, seed: int) -> list[MutationSpec]:
    """`count` places of the folder by lot, one mutant each, paths relative to the tree."""
    at: dict[tuple[str, tuple[int, int], tuple[int, int]], list[MutationSpec]] = {}
    paths = sorted((tree / folder).rglob("*.py"))
    sources = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    with use_db(tree / "build" / "mutants.sqlite") as database:
        init(paths, database, {})
        mutants = [item.mutations[0] for item in database.work_items]
    for mutant in sorted(mutants, key=lambda mutant: (mutant.operator_name, mutant.occurrence)):
        if not annotated(sources[mutant.module_path], mutant.start_pos):
            at.setdefault((str(mutant.module_path), mutant.start_pos, mutant.end_pos), []).append(mutant)
    lot = random.Random(seed)
    places = lot.sample(sorted(at), min(count, len(at)))
    print(f"{folder}: {len(places)} of {len(at)} places ({sum(map(len, at.values()))} mutants)", flush=True)
    return [lot.choice(at[place]) for place in sorted(places)]


def ask(tree: Path, mutant: MutationSpec, reaches: dict[str, Reach]) -> tuple[str, str]:
    """What became of a mutant in this copy: "killed", "timeout" or "survived", and its diff."""
    file, line = str(mutant.module_path), mutant.start_pos[0]
    source = ast.parse((tree / file).read_text(encoding="utf-8"))
    tests = tests_for(file, statement_at(source, line), reaches)
    limit = 30 + 3 * sum(reaches[test].seconds for test in tests)
    # one process a test file: what is told within two seconds need not wait for torch to load
    runs = " && ".join(inside(tree, f"{PYTEST} tests/{test}") for test in tests) or "true"
    here = MutationSpec(tree / file, mutant.operator_name, mutant.occurrence, mutant.start_pos, mutant.end_pos)
    result = mutate_and_test([here], f"sh -c {shlex.quote(runs)}", limit)
    if result.diff is None:
        return "failed", result.output or ""
    outcome = "timeout" if result.output == "timeout" else str(result.test_outcome.value)
    changed = [row for row in result.diff.split("\n")[3:] if row[:1] in "+-"]
    return outcome, "\n".join([f"    asked: {' '.join(tests) or 'none, no test reaches it'}", *changed])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("folders", nargs="+")
    words.add_argument("--mutants", type=int, default=60, help="of each folder")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    options = words.parse_args()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a mutant is gone before a clock has told its file from the old one
    BUILD.mkdir(parents=True, exist_ok=True)
    trees: queue.Queue[Path] = queue.Queue()
    for job in range(options.jobs):
        trees.put(copy_tree(f"tree-{job}"))
    first = trees.queue[0]
    drawn = [(folder, m) for folder in options.folders for m in draw(first, folder, options.mutants, options.seed)]
    reaches = measure(first, options.folders)
    scores = {folder: Counter() for folder in options.folders}

    def run(entry: tuple[str, MutationSpec]) -> None:
        folder, mutant = entry
        tree, begun, file = trees.get(), time.monotonic(), mutant.module_path.relative_to(first)
        spec = MutationSpec(file, mutant.operator_name, mutant.occurrence, mutant.start_pos, mutant.end_pos)
        outcome, told = ask(tree, spec, reaches)
        trees.put(tree)
        scores[folder][outcome] += 1
        name, done = mutant.operator_name.split("/")[1], sum(sum(score.values()) for score in scores.values())
        line = f"{done}/{len(drawn)} {outcome} {file}:{mutant.start_pos[0]} {name} {time.monotonic() - begun:.0f} s"
        print(line if outcome == "killed" else f"{line}\n{told}", flush=True)

    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(run, drawn))
    finally:
        for folder, score in scores.items():
            caught, all_ = score["killed"] + score["timeout"], sum(score.values())
            told = ", ".join(f"{score[outcome]} {outcome}" for outcome in ("killed", "timeout", "survived", "failed"))
            print(f"{folder}: {caught} of {all_} caught ({100 * caught / max(all_, 1):.0f} %): {told}")


if __name__ == "__main__":
    main()
