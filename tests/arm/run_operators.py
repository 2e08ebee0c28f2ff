"""onnxruntime's operators on whatever machine runs this: `run_operators.py FOLDER` prints one JSON of name to finding.

FOLDER holds what operator_models.py writes. A finding is the largest difference from what must come out, in parts of
the largest value, or the words of onnxruntime, which has no such operator here or refuses it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def difference(folder: Path, name: str) -> float:
    """Of all outputs of one model, the largest."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 2
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    given, wanted = (dict(np.load(folder / f"{name}.{end}.npz")) for end in ("in", "out"))
    came = dict(zip(wanted, session.run([*wanted], given), strict=True))
    return max(float(np.abs(came[key] - wanted[key]).max() / np.abs(wanted[key]).max()) for key in wanted)


def main(folder: Path) -> None:
    """Print what was found."""
    found: dict[str, float | str] = {}
    for name in sorted(path.stem for path in folder.glob("*.onnx")):
        try:
            found[name] = difference(folder, name)
        except Exception as error:  # onnxruntime's exceptions share no other base
            found[name] = " ".join(str(error).split())
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
