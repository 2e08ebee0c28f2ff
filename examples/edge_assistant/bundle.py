"""Owns the test's second back-end: a bundle that moedge exported, answered by moedge's own engine, one by one."""

from collections.abc import Callable
from pathlib import Path

from data import MOST_TOKENS
from kinds import Json

from moedge.runtime import Engine, SamplingParams


def bundle_answers(folder: Path) -> Callable[[list[Json]], list[str]]:
    """Greedy answers of the bundle, special tokens included, as `evaluate.score` wants them."""
    engine = Engine.load(folder)
    greedy = SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS)

    def answer(requests: list[Json]) -> list[str]:
        texts = []
        for request in requests:
            prompt = engine.encode_chat(request["messages"], request["tools"])
            tokens = [token.token_id for token in engine.generate(prompt, greedy)]
            texts.append(engine.tokenizer.decode(tokens))
        return texts

    return answer
