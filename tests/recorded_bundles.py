"""Whether a change leaves bundles as they were: a pytest plugin that records what the tests export, and its comparison.

    BUNDLES=before.json PYTHONPATH=tests python -m pytest -p recorded_bundles     # on the tree before
    BUNDLES=after.json  PYTHONPATH=tests python -m pytest -p recorded_bundles     # on the tree after
    python tests/recorded_bundles.py before.json after.json

An export is known by its checkpoint's bytes and its options, so tests may move and change their names meanwhile.
Exports in processes of their own are not seen.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

SAME = ("model.onnx", "weights.bin")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(checkpoint: Path, options: Any) -> str:
    """The checkpoint's files by content, and everything of the options that bytes depend on."""
    files = {path.name: digest(path) for path in sorted(checkpoint.iterdir()) if path.is_file()}
    chosen = [options.scheme.name, options.plan, options.context]
    rounding = getattr(options, "rounding", None)
    if rounding is not None and rounding.name != "nearest":  # which is the only one of trees without the option
        chosen.append(rounding.name)
    text = json.dumps([files, *chosen], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pytest_configure() -> None:
    import moedge.export.bundle as bundle

    export, recorded = bundle.export_bundle, {}

    def recording(checkpoint: Path, target: Path, options: Any, *args: Any, **named: Any) -> Any:
        options = options.decided()
        manifest = export(checkpoint, target, options, *args, **named)
        key = key_of(checkpoint, options)
        said = f"{manifest.model.model_type} {options.scheme.name} {options.plan}"
        recorded[key] = {"export": said, **{name: digest(target / name) for name in SAME}}
        Path(os.environ["BUNDLES"]).write_text(json.dumps(recorded, indent=1), encoding="utf-8")
        return manifest

    bundle.export_bundle = recording  # before any test module imports it


def compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what differs; the number of exports that do."""
    both = before.keys() & after.keys()
    different = [key for key in both if before[key] != after[key]]
    for key in different:
        parts = [name for name in SAME if before[key][name] != after[key][name]]
        print(f"{after[key]['export']}: {', '.join(parts)} differ")
    for said, missing in (("before", after.keys() - both), ("after", before.keys() - both)):
        if missing:
            print(f"{len(missing)} exports were not made {said}")
    kinds = len({before[key]["export"] for key in both})
    print(f"{len(both) - len(different)} of {len(both)} bundles are the same, of {kinds} families, schemes and plans")
    return len(different)


if __name__ == "__main__":
    first, second = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    sys.exit(1 if compare(first, second) else 0)
