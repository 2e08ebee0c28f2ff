"""The embedded model on each board, beside the same on this machine: through the endpoint, and number by number."""

import json

import numpy as np
import pytest
from run_model import CACHE_TYPES, CHUNKS
from runs import X86

# KL of a position from this machine's logits with the same cache, then from those with float32. moedge's kernels give
# the same bits; onnxruntime's few nodes round otherwise, and once in a while that makes a router choose otherwise.
MOST = {"median": 1e-4, "mean": 1e-2}
MOST_OF_CACHE = {"float32": 1e-4, "float16": 1e-3, "int8": 1e-2}  # the median


def test_the_endpoint_answers_a_request_as_it_does_here(board, runs, fact):
    message, usage = runs["answer", board.name]
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "set_light"
    assert json.loads(call["function"]["arguments"]) == {"room": "kitchen", "on": True}
    expected, tokens = runs["answer", X86]
    same = (without_ids(message), usage) == (without_ids(expected), tokens)
    fact("endpoint", f"{usage['completion_tokens']} tokens{'' if same else ', others than'} as x86")
    assert same, (message, expected)


def without_ids(message):
    """Two servers make different ids for the same call."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return {**message, "tool_calls": calls}


def test_greedy_tokens_are_those_of_here(board, runs, fact):
    mine, theirs = (runs["model", name]["tokens"].tolist() for name in (X86, board.name))
    alike = sum(a == b for a, b in zip(mine, theirs, strict=False))
    fact("greedy tokens", f"{alike} of {len(mine)} as x86")
    assert mine == theirs


@pytest.mark.parametrize("way", CHUNKS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_logits_are_near_those_of_here(board, runs, cache_type, way, fact):
    here, there = runs["model", X86], runs["model", board.name]
    found = divergence(here[f"{way} {cache_type}"], there[f"{way} {cache_type}"])
    of_cache = np.median(divergence(here[f"{way} float32"], there[f"{way} {cache_type}"]))
    fact(f"KL {way}, {cache_type}", f"{np.median(found):.0e}, mean {found.mean():.0e}, from float32 {of_cache:.0e}")
    assert np.median(found) <= MOST["median"]
    assert found.mean() <= MOST["mean"]
    assert of_cache <= MOST_OF_CACHE[cache_type]


def test_caches_hold_other_numbers(board, runs):
    """Else the bounds above would say nothing of them."""
    logits = [runs["model", board.name][f"answer {kind}"] for kind in CACHE_TYPES]
    assert len({each.tobytes() for each in logits}) == len(CACHE_TYPES)


def divergence(exact, other):
    """KL(exact ‖ other) at each position of logits [n, vocab]."""
    p, q = (each - np.log(np.exp(each).sum(-1, keepdims=True)) for each in map(np.float64, (exact, other)))
    return (np.exp(p) * (p - q)).sum(-1)
