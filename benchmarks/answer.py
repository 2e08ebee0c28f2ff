"""How long one answer of a bundle takes: to the first token, a token, and in all. Medians of greedy runs, each from an
empty cache.

    python benchmarks/answer.py BUNDLE --tools examples/edge_assistant/tools.json "turn on the kitchen light"
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from moedge.runtime import Engine, SamplingParams


def answer(engine: Engine, token_ids: list[int], max_tokens: int) -> dict[str, float]:
    """Seconds to the first token and to the last, and how many there were."""
    begun = time.perf_counter()
    moments = []
    for _ in engine.generate(token_ids, SamplingParams(temperature=0, max_tokens=max_tokens)):
        moments.append(time.perf_counter() - begun)
    return {"first_token_s": moments[0], "whole_s": moments[-1], "tokens": len(moments)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("question")
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begun = time.perf_counter()
    engine = Engine.load(options.bundle)
    loaded = time.perf_counter() - begun
    tools = json.loads(options.tools.read_text(encoding="utf-8")) if options.tools else None
    ids = engine.encode_chat([{"role": "user", "content": options.question}], tools)
    runs = [answer(engine, ids, options.max_tokens) for _ in range(options.rounds + 1)][1:]  # the first warms up
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    rate = (median["tokens"] - 1) / (median["whole_s"] - median["first_token_s"])
    result = {"load_s": loaded, "prompt_tokens": len(ids), **median, "tokens_per_s": rate}
    if options.json:
        print(json.dumps(result, indent=1))
        return
    first = median["first_token_s"] * 1e3
    print(f"loaded in {loaded * 1e3:.0f} ms; {len(ids)} tokens of prompt, first token after {first:.1f} ms")
    print(f"{median['tokens']:.0f} tokens at {rate:.0f} a second, the whole answer in {median['whole_s'] * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
