"""The embedded model on whatever machine runs this, in all types of cache: `run_model.py BUNDLE RESULTS.npz`.

It gives, for each type, the logits of some texts in two ways; beside them greedy tokens of an answer with the profile's
own, what kernels and system say of the CPU, and whether a child that dies of an unknown instruction is noticed.
"""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np

from moedge.devices.instructions import real_isa, survives
from moedge.devices.profile import load_profile
from moedge.runtime.engine import Engine
from moedge.runtime.sampling import SamplingParams

CACHE_TYPES = ("float32", "float16", "int8")
# Several, as a rounding that tips at the first token of one changes all of its logits.
TEXTS = (
    "Turn on the light in the kitchen and close the garage door. Merci !",
    "Set a timer for ten minutes, then play some music in the living room.",
    "Quelle heure est-il ? Ferme les volets de la chambre et éteins la lampe.",
    "How are you today? I have no clock, so tell me when the tea is ready.",
    "Every expert reads a few tokens; most of them are silent most of the time.",
)
CHAT = [{"role": "user", "content": "how are you today?"}]
MOST_TOKENS = 16
# Tokens at once: a prompt's kernels round what they read of any cache to int8, an answer's read it as it lies.
CHUNKS = {"prompt": 256, "answer": 8}


def main(bundle: str, results: str) -> None:
    """Run, and write the results."""
    profile = load_profile("auto")
    found: dict[str, object] = {}
    for cache_type in CACHE_TYPES:
        engine = Engine.load(bundle, replace(profile, cache_type=cache_type))
        for way, chunk in CHUNKS.items():
            engine.profile = replace(profile, cache_type=cache_type, prefill_chunk=chunk)
            logits = [engine.score(engine.encode(text)) for text in TEXTS]
            found[f"{way} {cache_type}"] = np.concatenate(logits)  # [n, vocab]
        if cache_type == profile.cache_type:
            greedy = SamplingParams(temperature=0, max_tokens=MOST_TOKENS)
            found["tokens"] = [token.token_id for token in engine.generate(engine.encode_chat(CHAT), greedy)]
    library = engine.program.library
    said = {
        "machine": os.uname().machine,
        "kernels": library and library.isa,
        "real": real_isa(profile.architecture),
        "killed": survives(lambda: os.kill(os.getpid(), signal.SIGILL)),
        "ended": survives(lambda: None),
    }
    np.savez(results, said=json.dumps(said), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
