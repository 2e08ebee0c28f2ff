"""The server that the browser of this folder talks to: the endpoint over an engine that says what is here.

It prints its port. `--layers` and `--experts` give the shape of its mixture, 0 experts none; `--load-s` how long it
loads; `--key` a key. What it answers depends on a word of the last message, see `ANSWERS`.
"""

import argparse
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_engine import FakeEngine, MidwayError

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import make_guard
from moedge.edge_server.server import EdgeServer, bind, drain_on_signals, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.expert_counts import ExpertTotals

CALL = (
    "<think>It is dark.</think>Sure.<|tool_calls_section_begin|><|tool_call_begin|>functions.set_light:0"
    '<|tool_call_argument_begin|>{"room": "kitchen", "on": true}<|tool_call_end|><|tool_calls_section_end|>'
)
MARKDOWN = """## Mixtures of experts

A **mixture of experts** has *many* small networks and a `router` that picks a few for each token. See
[the paper](https://example.org/moe) or https://example.org/more.

1. The router scores every expert.
2. The best `k` run:
   - each on the same token,
   - each with its own weights.

3. Their answers are added.

| model | layers | experts |
|---|---|---|
| small | 4 | 8 |
| large | 94 | 512 |

```python
def route(scores, k):
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k]  # a line that is longer than a phone is wide
```

> Only what is chosen costs anything.
"""
HOSTILE = (
    """<img src=x onerror="window.harmed = 1"> <script>window.harmed = 2</script>

[press](javascript:window.harmed=3) [data](data:text/html,x) ![pixel](https://evil.example/pixel.png)

`<svg onload=alert(1)>` <style>*{display:none}</style>

"""
    + ">" * 3000
    + "\n\n"
    + "*a **b " * 2000
    + "\n\n"
    + "`" * 999
    + " "
    + "[" * 2000
)
ARABIC = "مرحبا! هذا **نموذج** صغير يعمل على هذا الجهاز.\n\n- أولا\n- ثانيا"
THOUGHT = "The question is about lamps. Lamps are lit at night. So the answer is short."


def pieces(text: str, size: int = 6) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


ANSWERS: dict[str, list[str | Exception]] = {
    "markdown": pieces("<think></think>" + MARKDOWN),
    "think": ["<think>", *pieces(THOUGHT), "</think>", "At night."],
    "lamp": pieces(CALL),
    "hostile": pieces("<think></think>" + HOSTILE, 400),
    "long": ["<think></think>", *["x" * 1024] * 1024],
    "break": ["<think></think>", "Half of an ", MidwayError("The engine lost its place.")],
    "arabic": pieces("<think></think>" + ARABIC),
    "slowly": ["<think></think>", *["word. "] * 400],
}


def answer(prompt: str) -> list[str | Exception]:
    last = prompt.rpartition("<|user|>")[2].lower()
    if "<|tool|>" in last:
        return ["<think></think>", "The light ", "is on."]
    return next((said for word, said in ANSWERS.items() if word in last), ["<think></think>", "Hello ", "there", "."])


class DrawnCounts:
    """Counts as if the tokens that ran had gone to drawn experts, some far more often than others."""

    def __init__(self, engine: FakeEngine, layers: int, experts: int, chosen: int) -> None:
        self._engine, self._chosen, self._random = engine, chosen, np.random.default_rng(7)
        self._layers = tuple(range(1, layers + 1))
        self._liking = self._random.gumbel(size=(layers, experts)) * 1.5
        self._counts = np.zeros((layers, experts), np.uint64)
        self._tokens = 0

    def read(self) -> ExpertTotals:
        ran = sum(sum(run.values()) for run in list(self._engine.runs))
        for _ in range(min(ran - self._tokens, 64)):
            drawn = self._liking + self._random.gumbel(size=self._liking.shape)
            best = np.argpartition(drawn, -self._chosen)[:, -self._chosen :]
            np.put_along_axis(self._counts, best, np.take_along_axis(self._counts, best, 1) + np.uint64(1), 1)
            self._tokens += 1
        seen = len(self._layers) if self._tokens else 0
        return ExpertTotals(self._layers[:seen], self._counts[:seen].copy(), self._tokens)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--chosen", type=int, default=2)
    parser.add_argument("--step-s", type=float, default=0.02)
    parser.add_argument("--load-s", type=float, default=0.0)
    parser.add_argument("--plan", default="native")
    parser.add_argument("--key")
    told = parser.parse_args()
    engine = FakeEngine(answer, step_seconds=told.step_s, context_length=8192, chunk=64)
    shape = {"moe_layers": told.layers, "num_experts": told.experts, "num_experts_per_tok": told.chosen}
    facts, experts = replace(engine.manifest.model, **shape), replace(engine.manifest.experts, plan=told.plan)
    engine.manifest = replace(engine.manifest, model=facts, experts=experts)
    if told.experts and told.plan == "native":
        engine.program.expert_counts = DrawnCounts(engine, told.layers, told.experts, told.chosen)
    service = Service()
    guard = make_guard("127.0.0.1", [told.key] if told.key else [])
    server = EdgeServer(create_app(service, guard), bind("127.0.0.1", 0), streams=8)
    drain_on_signals(server, service)
    print(server.effective_port, flush=True)

    def load() -> None:
        time.sleep(told.load_s)
        service.open(engine)

    threading.Thread(target=load, daemon=True).start()
    serve_until_drained(server, service, 1.0, lambda: False)


if __name__ == "__main__":
    main()
