"""What HTTP costs one client: time to the first token and time a token, beside the same engine without it."""

import asyncio
import time

from asynchronous import ask
from served import percentile

from moedge.runtime import Engine
from moedge.runtime.sampling import SamplingParams

ROUNDS, TOKENS = 12, 128


def test_overhead_of_one_client(bundle, serve, row):
    served = serve("--max-running", "1")
    engine = Engine.load(bundle)
    prompt = engine.encode("turn on the kitchen light")
    params = SamplingParams(
        temperature=0.0, max_tokens=TOKENS, logit_bias={int(token): -100.0 for token in served.ends}
    )
    first: dict[str, list[float]] = {"process": [], "http": []}
    each: dict[str, list[float]] = {"process": [], "http": []}
    for number in range(ROUNDS + 1):
        session = engine.session()
        began = time.perf_counter()
        times = [time.perf_counter() - began for _ in engine.generate(prompt, params, session)]
        session.close()
        body = served.long(TOKENS, prompt=prompt, stream=True, cache_prompt=False)
        answer = asyncio.run(ask(served.port, "/v1/completions", body))
        assert answer.status == 200
        if number:  # the first warms both
            for where, told in (("process", times), ("http", answer.times)):
                first[where].append(1000 * told[0])
                each[where].append(1000 * (told[-1] - told[0]) / (TOKENS - 1))
    medians = {where: (percentile(first[where], 0.5), percentile(each[where], 0.5)) for where in first}
    to_first, a_token = (http - process for http, process in zip(medians["http"], medians["process"], strict=True))
    row(
        "what HTTP costs",
        f"one client, {ROUNDS} streams of {TOKENS} tokens in turn with the engine in this process, medians",
        "first token + ≤ 5 ms, a token + ≤ 0.5 ms",
        f"first token {medians['process'][0]:.1f} and {medians['http'][0]:.1f} ms ({to_first:+.1f});"
        f" a token {medians['process'][1]:.2f} and {medians['http'][1]:.2f} ms ({a_token:+.2f})",
        to_first <= 5 and a_token <= 0.5,
    )
