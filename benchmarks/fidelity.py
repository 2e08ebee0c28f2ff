"""How well moedge's schemes answer beside what people download: real weights, the same text, every engine its own.

    make bench-fidelity                                                  # everything, hours of one core
    make bench-fidelity METHODS="moedge:int4 ggml:Q4_K_M+" MIXTURES=even # what fidelity/methods.py names
    .venv/bin/python benchmarks/fidelity.py moedge:int4 --mixtures even --folder build/fidelity/small --evaluate 12

SmolLM2-135M as two mixtures (`even`: all of 6 experts; `routed`: 8 of 12 by a fitted router), each as a checkpoint and
as a GGUF of the same function. Prints a table; table, JSON and a picture a mixture are left in the folder. What peers
came to is kept there, moedge's schemes are exported and scored anew; --fresh does so with all.
"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

from fidelity.measuring import measure
from fidelity.methods import DEFAULT, parse
from fidelity.picture import picture
from fidelity.table import ratios, table
from fidelity.workplace import MIXTURES, Settings, prepare

FOLDER = Path(__file__).absolute().parents[1] / "build" / "fidelity" / "full"


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=DEFAULT)
    parser.add_argument("--mixtures", nargs="+", choices=MIXTURES, default=MIXTURES)
    parser.add_argument("--against", default="ggml:Q4_K_M+", help="the method that ratios are over")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--fresh", action="store_true", help="measure peers again too")
    parser.add_argument("--json", action="store_true")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help=field.metadata["help"])
    options = parser.parse_args()
    for method in options.methods:
        parse(method)  # before hours of work
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    place = prepare(options.folder, settings, tuple(options.mixtures))
    measured = [
        measure(place, mixture, method, options.fresh or method.startswith("moedge:"))
        for mixture in options.mixtures
        for method in options.methods
    ]
    compared = {key: asdict(each) for key, each in ratios(measured, options.against).items()}
    said = [each.summary() | {"ratio": compared.get((each.mixture, each.method))} for each in measured]
    result = json.dumps({"settings": asdict(settings), "against": options.against, "measured": said}, indent=1)
    (options.folder / "results.json").write_text(result, encoding="utf-8")
    (options.folder / "results.md").write_text(table(measured, options.against), encoding="utf-8")
    for mixture in options.mixtures:
        drawn = picture([each for each in measured if each.mixture == mixture], f"SmolLM2-135M, {mixture}")
        (options.folder / f"{mixture}.svg").write_text(drawn, encoding="utf-8")
    print(result if options.json else table(measured, options.against))


if __name__ == "__main__":
    main()
