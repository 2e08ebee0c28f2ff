"""Do the tests prove? Mutation testing by sample: cosmic-ray makes one small change, the tests that reach it must fail.

    make mutants                                      # 60 mutants of quant, runtime and export/graph each
    make mutants MUTANTS=200 FOLDERS="quant" JOBS=2   # SEED=1 draws others

Works in copies of the tree under build/mutants/. First every test file runs once by itself under coverage: that says
which test files reach which line. Then places are drawn by lot, with one mutant each (cosmic-ray knows up to eleven for
an operator, which would count eleven times). A mutant meets the test files that reach its statement, until one fails or
those that fit into SECONDS have passed: they are named with what survives. The time limit is thrice what they take.

Annotations are not mutated. A line that only other processes of a test execute counts as reached by none.
"""

import argparse
import ast
import hashlib
import json
import queue
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from attrs import evolve
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData

ROOT = Path(__file__).absolute().parents[1]
BUILD = ROOT / "build" / "mutants"
STAGES = ("devices", "quant", "export", "runtime", "edge_server")
PYTEST = "-m pytest -qx -p no:cacheprovider --hypothesis-profile=mutants --hypothesis-seed=0"
NOT_ASKED = ("test_house.py", "test_rooms.py", "test_optimum_cli.py")  # they are about files and installed wheels


class Reach(NamedTuple):
    """What one test file reaches in its `seconds`: the lines of each source file that it executes."""

    seconds: float
    lines: dict[str, set[int]]


def copy_tree(name: str) -> Path:
    """A copy of the working tree in which `moedge` is the copy's own folders, whatever is installed."""
    tree = BUILD / name
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info", ".*"))
    (tree / "build" / "path" / "moedge").mkdir(parents=True)
    for stage in STAGES:
        (tree / "build" / "path" / "moedge" / stage).symlink_to(tree / stage)
    return tree


def inside(tree: Path, words: str) -> str:
    """A command that runs Python in the copy, within 16 GiB: a mutant may want memory without end."""
    python = f"PYTHONPATH=build/path {shlex.quote(sys.executable)}"
    return f"ulimit -v 16777216 && cd {shlex.quote(str(tree))} && {python} {words}"


def measure(tree: Path) -> dict[str, Reach]:
    """Each test file that passes, run by itself; kept until it or anything but another test file changes."""
    tests = [path for path in sorted((tree / "tests").glob("test_*.py")) if path.name not in NOT_ASKED]
    rest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(tree.rglob("*.py")) if path not in tests))
    found = {}
    for test in tests:
        kept = BUILD / f"{test.stem}-{hashlib.sha256(rest.digest() + test.read_bytes()).hexdigest()[:16]}.json"
        if not kept.exists():
            data = tree / "build" / f"{kept.stem}.coverage"
            trace = f"-m coverage run --rcfile=/dev/null --data-file={data} --source={','.join(STAGES)}"
            run, begun = inside(tree, f"{trace} {PYTEST} tests/{test.name}"), time.monotonic()
            done = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=False)
            seconds = time.monotonic() - begun
            print(f"{seconds:6.1f} s  {test.name}", flush=True)
            if done.returncode != 0:  # under no mutant: it is not asked
                print(done.stdout[-2000:], flush=True)
                continue
            executed = CoverageData(str(data))
            executed.read()
            lines = {str(Path(file).relative_to(tree)): executed.lines(file) for file in executed.measured_files()}
            kept.write_text(json.dumps([seconds, {file: here for file, here in lines.items() if here}]))
        seconds, lines = json.loads(kept.read_text())
        found[test.name] = Reach(seconds, {file: set(here) for file, here in lines.items()})
    return found


def tests_for(file: str, lines: range, reaches: dict[str, Reach], seconds: float) -> list[str]:
    """Test files that execute one of `lines` beyond what an import does, the most telling first, within `seconds`."""
    loaded = {test: reach.lines[file] for test, reach in reaches.items() if file in reach.lines}
    imported = set.intersection(*loaded.values()) if len(loaded) > 1 else set()
    own = {test: executed - imported for test, executed in loaded.items() if executed - imported}
    reached = {test: executed for test, executed in own.items() if executed & set(lines)}
    if imported & set(lines):  # a constant or the like: whoever executes a function of the file may hear of it
        reached = own or loaded
    asked, spent = [], 0.0
    # who enters more of an `if`'s branches, then who says more in a second
    for test in sorted(reached, key=lambda t: (-len(reached[t] & set(lines)), -len(reached[t]) / reaches[t].seconds)):
        if not asked or spent + reaches[test].seconds <= seconds:
            asked.append(test)
            spent += reaches[test].seconds
    return asked


def statement_at(tree: ast.AST, line: int) -> range:
    """The lines of the innermost statement at a line, decorators among them."""
    spans = [
        range(min([node.lineno, *(above.lineno for above in getattr(node, "decorator_list", ()))]), node.end_lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
    ]
    return min((span for span in spans if line in span), key=len)


def annotated(tree: ast.AST, at: tuple[int, int]) -> bool:
    """Whether a position is within an annotation, where every mutant fails at import or means nothing."""
    notes = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    return any((note.lineno, note.col_offset) <= at < (note.end_lineno, note.end_col_offset) for note in notes if note)


def draw(tree: Path, folder: str, count: int, seed: int) -> list[MutationSpec]:
    """`count` places of the folder by lot, one mutant each."""
    paths = sorted((tree / folder).rglob("*.py"))
    sources = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    with use_db(tree / "build" / "mutants.sqlite") as database:
        init(paths, database, {})
        mutants = [item.mutations[0] for item in database.work_items]
    at: dict[tuple[str, tuple[int, int], tuple[int, int]], list[MutationSpec]] = {}
    for mutant in sorted(mutants, key=lambda mutant: (mutant.operator_name, mutant.occurrence)):
        if not annotated(sources[mutant.module_path], mutant.start_pos):
            at.setdefault((str(mutant.module_path), mutant.start_pos, mutant.end_pos), []).append(mutant)
    lot = random.Random(seed)
    places = lot.sample(sorted(at), min(count, len(at)))
    print(f"{folder}: {len(places)} of {len(at)} places ({sum(map(len, at.values()))} mutants)", flush=True)
    return [lot.choice(at[place]) for place in sorted(places)]


def ask(tree: Path, file: Path, mutant: MutationSpec, reaches: dict[str, Reach], seconds: float) -> tuple[str, str]:
    """What became of a mutant of `file` in this copy: "killed", "timeout" or "survived", and its diff."""
    lines = statement_at(ast.parse((tree / file).read_text(encoding="utf-8")), mutant.start_pos[0])
    tests = tests_for(str(file), lines, reaches, seconds)
    limit = 30 + 3 * sum(reaches[test].seconds for test in tests)
    # one process a test file: what is told within two seconds need not wait for torch to load
    runs = " && ".join(inside(tree, f"{PYTEST} tests/{test}") for test in tests) or "true"
    result = mutate_and_test([evolve(mutant, module_path=tree / file)], f"sh -c {shlex.quote(runs)}", limit)
    if result.diff is None or result.test_outcome is None:
        return "failed", result.output or ""
    outcome = "timeout" if result.output == "timeout" else str(result.test_outcome.value)
    changed = [row for row in result.diff.split("\n")[3:] if row[:1] in "+-"]
    return outcome, "\n".join([f"    asked: {' '.join(tests) or 'none, no test reaches it'}", *changed])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("folders", nargs="+")
    words.add_argument("--mutants", type=int, default=60, help="of each")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--seconds", type=float, default=240, help="of tests that a mutant meets at most")
    words.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    options = words.parse_args()
    trees = queue.Queue()
    for job in range(options.jobs):
        trees.put(copy_tree(f"tree-{job}"))
    first = trees.queue[0]  # whose paths the mutants have
    drawn = [(folder, m) for folder in options.folders for m in draw(first, folder, options.mutants, options.seed)]
    reaches = measure(first)
    scores = {folder: Counter() for folder in options.folders}

    def run(entry: tuple[str, MutationSpec]) -> None:
        folder, mutant = entry
        tree, begun, file = trees.get(), time.monotonic(), mutant.module_path.relative_to(first)
        try:
            outcome, told = ask(tree, file, mutant, reaches, options.seconds)
        finally:
            trees.put(tree)
        scores[folder][outcome] += 1
        place, done = f"{file}:{mutant.start_pos[0]}", sum(sum(score.values()) for score in scores.values())
        line = f"{done}/{len(drawn)} {outcome} {place} {mutant.operator_name} {time.monotonic() - begun:.0f} s"
        print(line if outcome == "killed" else f"{line}\n{told}", flush=True)

    pool = ThreadPoolExecutor(options.jobs)
    try:
        list(pool.map(run, drawn))
    finally:  # after Ctrl-C too, of what there is
        pool.shutdown(cancel_futures=True)
        for folder, score in scores.items():
            caught, all_ = score["killed"] + score["timeout"], sum(score.values())
            told = ", ".join(f"{score[outcome]} {outcome}" for outcome in ("killed", "timeout", "survived", "failed"))
            print(f"{folder}: {caught} of {all_} caught ({100 * caught / max(all_, 1):.0f} %): {told}")


if __name__ == "__main__":
    main()
