"""The example's embedded model: its data split, tokenizer, template, packed layout, and the committed checkpoint."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

EXAMPLE = Path(__file__).parents[1] / "examples" / "edge_assistant"
CHECKPOINT = EXAMPLE / "checkpoint"
pytestmark = pytest.mark.usefixtures("example_on_path")
SPELLINGS = {"on", "off", "open", "close", "closed", "lock", "unlock", "locked", "unlocked"}  # of declared enums


@pytest.fixture(scope="module")
def requests() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLE / "test_requests.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


@pytest.fixture(scope="module")
def training() -> list[Any]:
    import data

    rng = random.Random(3)
    return [data.make_sample(rng, 1.0) for _ in range(2000)]


def test_the_test_requests_are_what_their_seed_makes(requests: list[dict[str, Any]]) -> None:
    import evaluate

    seed = requests[0]["tags"]["seed"]
    assert requests == evaluate.make_requests(seed, 1000, 100, 150)


def test_values_combinations_and_unseen_names_of_the_test_never_occur_in_training(
    requests: list[dict[str, Any]], training: list[Any]
) -> None:
    def strings(calls: list[dict[str, Any]]) -> set[str]:
        free = (v for c in calls for v in c["arguments"].values() if isinstance(v, str))
        return {v for v in free if v.lower() not in SPELLINGS}

    def names(tools: list[dict[str, Any]]) -> set[str]:
        return {tool["function"]["name"] for tool in tools}

    trained_values = set().union(*(strings(s.calls) for s in training))
    tested_values = set().union(*(strings(r["calls"]) for r in requests))
    assert len(trained_values) > 500 and not trained_values & tested_values
    trained_names = set().union(*(names(s.tools) for s in training))
    unseen = set().union(*(names(r["tools"]) for r in requests if r["tags"]["unseen_names"]))
    assert len(unseen) > 500 and not trained_names & unseen
    trained_users = {m["content"] for s in training for m in s.messages if m["role"] == "user"}
    assert not trained_users & {r["messages"][-1]["content"] for r in requests}


def test_sets_of_declared_kinds_are_split() -> None:
    import data

    rng = random.Random(0)
    seen = {side: {tuple(sorted(data.draw_kinds(rng, 3, side))) for _ in range(400)} for side in (False, True)}
    assert seen[True] and not seen[False] & seen[True]


def test_tokenizer_round_trips_any_text(tokenizer: Any) -> None:
    texts = ["", "  ", "été\n\t→ 你好 🙂 \x00", '{"a":[1.5,-2e9,null]}', "a_bC'd  \u0301 ﷽"]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_a_word_has_the_same_tokens_in_a_sentence_and_in_json(tokenizer: Any) -> None:
    alone = tokenizer.encode("zorbek", add_special_tokens=False).tokens
    for text in ("in the zorbek", '{"room":"zorbek"}', "set_zorbek"):
        tokens = tokenizer.encode(text, add_special_tokens=False).tokens
        assert any(tokens[i : i + len(alone)] == alone for i in range(len(tokens))), text


def test_template_renders_an_exchange(training: list[Any]) -> None:
    import data

    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "", "reasoning_content": "R", "tool_calls": [call]},
        {"role": "tool", "name": "f", "tool_call_id": "functions.f:0", "content": "ok"},
    ]
    expected = (
        '<|im_system|>tool_declare<|im_middle|>[{"x":1}]<|im_end|><|im_system|>system<|im_middle|>S<|im_end|>'
        "<|im_user|>user<|im_middle|>hi<|im_end|><|im_assistant|>assistant<|im_middle|><think>R</think>"
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"a":"é"}<|tool_call_end|><|tool_calls_section_end|><|im_end|>'
        "<|im_system|>f<|im_middle|>## Return of functions.f:0\nok<|im_end|><|im_assistant|>assistant<|im_middle|>"
    )
    assert data.render_prompt(messages, [{"x": 1}]) == expected
    later = [*messages, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "more"}]
    emptied = expected.replace("<think>R</think>", "<think></think>") + "<think></think>Done.<|im_end|>"
    assert data.render_prompt(later, [{"x": 1}]) == (
        emptied + "<|im_user|>user<|im_middle|>more<|im_end|><|im_assistant|>assistant<|im_middle|>"
    )


def test_the_server_renders_the_template_as_training_does(requests: list[dict[str, Any]]) -> None:
    import data

    from moedge.runtime.chat.template import ChatTemplate

    template = ChatTemplate((CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8"))
    for request in requests[:20]:
        assert template.render(request["messages"], request["tools"]) == data.render_prompt(
            request["messages"], request["tools"]
        )


def test_loss_falls_on_the_last_turn_of_the_assistant_only(tokenizer: Any, training: list[Any]) -> None:
    import data
    import numpy as np
    import train

    marks = [tokenizer.token_to_id(t) for t in ("<|im_assistant|>", "<|im_middle|>", "<|im_end|>", "<|im_user|>")]
    for sample in itertools.islice(training, 50):
        ids = np.array(tokenizer.encode(data.render(sample), add_special_tokens=False).ids)
        learnt = tokenizer.decode(list(ids[train.assistant_mask(ids, *marks)]), skip_special_tokens=False)
        last = max(i for i, m in enumerate(sample.messages) if m["role"] == "user")
        answers = [m for m in sample.messages[last:] if m["role"] == "assistant"]
        assert learnt.startswith(f"<think>{answers[0]['reasoning_content']}</think>")
        assert learnt.endswith(f"{answers[-1]['content']}<|im_end|>")


def test_packed_codes_are_those_of_compressed_tensors() -> None:
    import store

    codes = torch.randint(-8, 8, (6, 64), dtype=torch.int8)
    words = store.pack(codes)
    assert torch.equal(words, pack_to_int32(codes, 4))
    assert torch.equal(store.unpack(words), codes)
    assert store.pack(torch.tensor([[-8, -7, -1, 0, 1, 2, 6, 7]])).numpy().tobytes() == bytes.fromhex("1087a9fe")


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    import model
    import store

    shape = model.Shape(64, 64, 2, 1, 64, 64, 4, 2, 2, 64, 16, 16, 32, 2.0, 10000.0)
    written = model.Assistant(shape).bfloat16().float()
    (tmp_path / "tokenizer.json").write_text((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))
    store.save_checkpoint(written, tmp_path)
    read = store.load_checkpoint(tmp_path)
    for moe in written.moe_layers():
        moe.quantize = True
    ids = torch.arange(20)[None]
    assert torch.allclose(written(ids), read(ids), atol=1e-5)


def test_the_committed_checkpoint_is_whole_and_small() -> None:
    import store

    files = list(CHECKPOINT.iterdir())
    assert sum(file.stat().st_size for file in files) <= 20 * 2**20
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["format"] == "pack-quantized"
    assert config["n_routed_experts"] >= 16 and config["num_experts_per_tok"] == 4
    assert (CHECKPOINT / "chat_template.jinja").read_text() == (EXAMPLE / "chat_template.jinja").read_text()
    assistant = store.load_checkpoint(CHECKPOINT)
    assert 6e6 < sum(p.numel() for p in assistant.parameters()) < 20e6


def test_the_demo_turns_on_the_kitchen_light(tokenizer: Any) -> None:
    import evaluate
    import store

    tools = json.loads((EXAMPLE / "tools.json").read_text(encoding="utf-8"))
    request = {"messages": [{"role": "user", "content": "turn on the kitchen light"}], "tools": tools}
    assistant = store.load_checkpoint(CHECKPOINT)
    assistant.set_quantize(True)  # as it is exported, and as it was trained: all matrices in int4
    for moe in assistant.moe_layers():
        moe.quantize = False  # the stored experts are on their grid already
    text = evaluate.torch_answers(assistant, tokenizer)([request])[0]
    assert evaluate.parse_calls(text) == [("set_light", '{"on": true, "room": "kitchen"}')]
