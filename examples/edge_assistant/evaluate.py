"""Owns the held-out test: writes its requests, lets a model answer them, and counts exact matches and kinds of errors.

    python evaluate.py --checkpoint checkpoint            # this folder's model in fp32
    python evaluate.py --checkpoint checkpoint --int4     # with the dense matrices on moedge's int4 grid as well
    python evaluate.py --bundle BUNDLE                    # a bundle exported by moedge, through its engine
    python evaluate.py --write-requests SEED              # draw test_requests.jsonl anew; each line names the seed

A request counts when the calls are the expected ones: number, order, names, argument names and values. Talk, that is
small talk and requests without a tool, counts when nothing is called and no tool is named; its sentence is counted too.
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data import HERE, MOST_TOKENS, Json, Sample, compact, make_misfit, make_sample, make_talk, render_prompt
from model import Assistant
from tokenizers import Tokenizer

REQUESTS = HERE / "test_requests.jsonl"
Answer = Callable[[list[Json]], list[str]]
_CALL = re.compile(
    r"<\|tool_call_begin\|>functions\.(.+?):\d+<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>", re.S
)


def _request(sample: Sample, seed: int) -> Json:
    """The conversation up to its last user message, what that should call, and the answer that ends it."""
    user = max(i for i, m in enumerate(sample.messages) if m["role"] == "user")
    tags = sample.tags | {"seed": seed}
    request = {"messages": sample.messages[: user + 1], "tools": sample.tools, "calls": sample.calls, "tags": tags}
    return request | ({"answer": sample.messages[-1]["content"]} if "talk" in sample.tags else {})


def make_requests(seed: int, number: int, misfits: int, talks: int) -> list[Json]:
    """Held-out requests; every second one declares tools whose names training never draws. Then misfits, then talk."""
    rng = random.Random(seed)
    requests, seen = [], set()
    while len(requests) < number + misfits + talks:
        if len(requests) < number:
            sample = make_sample(rng, 1.0, held_out=True, unseen_names=len(requests) % 2 == 1)
        else:
            sample = make_misfit(rng) if len(requests) < number + misfits else make_talk(rng, held_out=True)
        request = _request(sample, seed)
        words = compact([request["messages"], request["tools"]])
        if words not in seen:
            seen.add(words)
            requests.append(request)
    return requests


def read_requests(path: Path) -> list[Json]:
    """The requests of a file, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.inference_mode()
def generate(model: Assistant, prompts: list[list[int]], end: int, most: int) -> list[list[int]]:
    """Greedy continuations of a batch, padded on the left, with cached keys and values."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[end] * (longest - len(p)) + p for p in prompts])
    valid = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
    positions = (valid.cumsum(-1) - 1).clamp_min(0)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    mask = (valid[:, None, None] & causal) | torch.eye(longest, dtype=torch.bool)
    caches: list[list[torch.Tensor]] = [[] for _ in model.layers]
    hidden = model(ids, positions, caches, mask)[:, -1]
    done = torch.zeros(len(prompts), dtype=torch.bool)
    out: list[list[int]] = [[] for _ in prompts]
    for _ in range(most):
        token = model.lm_head(hidden).argmax(-1)
        for i in (~done).nonzero().flatten().tolist():
            out[i].append(int(token[i]))
        done |= token == end
        if bool(done.all()):
            break
        valid = torch.cat((valid, torch.ones(len(prompts), 1, dtype=torch.bool)), 1)
        positions = positions[:, -1:] + 1
        hidden = model(token[:, None], positions, caches, valid[:, None, None])[:, -1]
    return out


def torch_answers(model: Assistant, tokenizer: Tokenizer, batch: int = 50) -> Answer:
    """Answers by the training model, in batches of requests of about one length."""
    end = tokenizer.token_to_id("<|im_end|>")

    def answer(requests: list[Json]) -> list[str]:
        rendered = [render_prompt(r["messages"], r["tools"]) for r in requests]
        prompts = [encoding.ids for encoding in tokenizer.encode_batch(rendered, add_special_tokens=False)]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts = [""] * len(prompts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            outputs = generate(model, [prompts[i] for i in chosen], end, MOST_TOKENS)
            for i, output in zip(chosen, outputs, strict=True):
                texts[i] = tokenizer.decode(output, skip_special_tokens=False)
        return texts

    return answer


def parse_calls(text: str) -> list[tuple[str, str]]:
    """(name, arguments as canonical JSON or the raw text where it is none) of each call in a generated text."""
    calls = []
    for name, raw in _CALL.findall(text):
        try:
            calls.append((name, json.dumps(json.loads(raw), sort_keys=True)))
        except ValueError:
            calls.append((name, f"invalid {raw}"))
    return calls


def kind_of_error(expected: list[tuple[str, str]], got: list[tuple[str, str]]) -> str:
    """ "" for an exact match, or the first thing that differs."""
    if expected == got:
        return ""
    if not got:
        return "no call"
    if len(expected) != len(got):
        return "number of calls"
    if any("invalid" in arguments[:7] for _, arguments in got):
        return "invalid JSON"
    if [name for name, _ in expected] != [name for name, _ in got]:
        known = {name for name, _ in expected}
        return "order or choice of tool" if {n for n, _ in got} <= known else "name of tool"
    names = [(sorted(json.loads(e)), sorted(json.loads(g))) for (_, e), (_, g) in zip(expected, got, strict=True)]
    return "value" if all(e == g for e, g in names) else "name of parameter"


def groups_of(tags: Json) -> list[str]:
    """The groups that a request counts in."""
    if "talk" in tags:
        return ["talk", f"talk: {tags['talk']}", f"talk: turn {tags['turn']}", f"talk: language {tags['language']}"]
    if not tags["asked"]:
        return ["no tool fits"]
    names = "tool names unseen" if tags["unseen_names"] else "tool names as in training"
    return ["all", f"language {tags['language']}", f"asked {tags['asked']}", f"declared {tags['declared']}", names]


def score(requests: list[Json], answer: Answer) -> Json:
    """Exact matches by tag, kinds of errors, and up to 20 examples of them."""
    texts = answer(requests)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    examples = []
    for request, text in zip(requests, texts, strict=True):
        expected = [(c["name"], json.dumps(c["arguments"], sort_keys=True)) for c in request["calls"]]
        error = kind_of_error(expected, parse_calls(text))
        if "answer" in request and not error and "functions." in text:
            error = "tool named in talk"
        counted = dict.fromkeys(groups_of(request["tags"]), not error)
        if "answer" in request:
            said = text.split("</think>")[-1].removesuffix("<|im_end|>")
            counted["talk: expected sentence"] = not error and said == request["answer"]
            error = error or ("" if said == request["answer"] else "other sentence")
        for group, good in counted.items():
            total[group] += 1
            right[group] += good
        if error:
            errors["call where none is due" if not expected and parse_calls(text) else error] += 1
            due = request.get("answer", expected)
            user = request["messages"][-1]["content"]
            examples.append({"error": error, "user": user, "expected": due, "text": text})
    exact = {
        group: {"right": right[group], "of": total[group], "percent": round(100 * right[group] / total[group], 2)}
        for group in sorted(total)
    }
    return {"exact": exact, "errors": dict(errors.most_common()), "examples": examples[:20]}


def main() -> None:
    """Run one back-end over the test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--int4", action="store_true", help="fake-quantize the dense matrices as moedge's int4 does")
    parser.add_argument("--requests", type=Path, default=REQUESTS, help="another test than the committed one")
    parser.add_argument("--first", type=int, default=0, help="only the first so many requests")
    parser.add_argument("--write-requests", type=int, metavar="SEED", help="draw the test anew and stop")
    parser.add_argument("--json", type=Path, help="write the report here as well")
    options = parser.parse_args()
    if options.write_requests is not None:
        lines = [compact(request) for request in make_requests(options.write_requests, 1000, 100, 150)]
        options.requests.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    if options.bundle:
        from bundle import bundle_answers

        answer = bundle_answers(options.bundle)
    elif options.checkpoint:
        from store import load_checkpoint

        model = load_checkpoint(options.checkpoint)
        model.set_quantize(options.int4)
        for moe in model.moe_layers():
            moe.quantize = False  # the checkpoint's experts are on their grid already
        answer = torch_answers(model, Tokenizer.from_file(str(options.checkpoint / "tokenizer.json")))
    else:
        sys.exit("say what to evaluate: --checkpoint FOLDER or --bundle FOLDER")
    requests = read_requests(options.requests)
    requests = requests[: options.first or None]
    started = time.monotonic()
    report: dict[str, Any] = score(requests, answer)
    report["seconds"] = round(time.monotonic() - started, 1)
    for group, figures in report["exact"].items():
        print(f"{group:24} {figures['right']:5} of {figures['of']:5}  {figures['percent']:6.2f} %")
    print("errors:", report["errors"], f"({report['seconds']} s)")
    if options.json:
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
