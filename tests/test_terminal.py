import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_bundle import successors_of, tokenizer, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning
from moedge.runtime.cli import main
from moedge.runtime.conversation import Answer, Call, Conversation
from moedge.runtime.terminal import Screen, numbers, read_tools

WORDS = tokenizer()


def chain(*parts: str) -> dict[int, int]:
    """Successors that write these tokens after the prompt of a chat."""
    ids = [WORDS.token_to_id("<|assistant|>")]
    for part in parts:
        special = WORDS.token_to_id(part)
        ids += [special] if special is not None else WORDS.encode(part, add_special_tokens=False).ids
    ids.append(WORDS.token_to_id("<|im_end|>"))
    assert len(set(ids)) == len(ids)
    return dict(pairwise(ids))


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_tiny_bundle(tmp_path / "toy", chain("<think>", "hm", "</think>", "yés!"))


class Pipe:
    """Standard input that is no terminal."""

    def __init__(self, text: str) -> None:
        self._text = text

    def isatty(self) -> bool:
        return False

    def read(self) -> str:
        return self._text


def test_a_pipe_gets_the_answer_alone(bundle, capsys):
    assert main(["run", str(bundle), "hi", "--temperature", "0"]) == 0
    assert capsys.readouterr() == ("yés!\n", "")


@pytest.mark.parametrize("words", [["-"], []])
def test_the_prompt_may_come_from_stdin(bundle, capsys, monkeypatch, words):
    monkeypatch.setattr(sys, "stdin", Pipe("hi"))
    assert main(["run", str(bundle), *words, "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "yés!\n"


def test_a_stop_string_ends_an_answer(bundle, capsys):
    assert main(["run", str(bundle), "hi", "--temperature", "0", "--stop", "s!"]) == 0
    assert capsys.readouterr().out == "yé\n"


def test_raw_continues_the_prompt_as_it_is(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path, successors_of("hello wörld!"))
    assert main(["run", str(bundle), "hello", "--raw", "--temperature", "0", "--max-tokens", "4"]) == 0
    assert capsys.readouterr().out == " wö\n"
    assert main(["run", str(bundle), "hello", "--raw", "--temperature", "0", "--stop", "ld"]) == 0
    assert capsys.readouterr().out == " wör\n"


def test_same_seed_same_text(bundle, capsys):
    texts = []
    for seed in ("1", "1", "2"):
        assert main(["run", str(bundle), "a", "--raw", "--seed", seed, "--temperature", "9", "--max-tokens", "9"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hi", "--temperature", "-1"], "temperature is -1.0, it must be 0 or more"),
        (["hi", "--raw", "--system", "x"], "are for a chat template, which --raw leaves out"),
        (["hi" * 100], "prompt has 203 tokens, the context is 64"),
        (["hi", "--tools", "nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_one_sentence(bundle, capsys, words, message):
    assert main(["run", str(bundle), *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_plain_model_is_offered_no_tools(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "b", chat_format="plain")
    (tmp_path / "tools.json").write_text('[{"type": "function", "function": {"name": "f"}}]')
    assert main(["run", str(bundle), "hi", "--tools", str(tmp_path / "tools.json")]) == 1
    assert "toy has no format for tool calls" in capsys.readouterr().err


def test_tools_are_checked(tmp_path):
    path = tmp_path / "tools.json"
    for broken in ("{}", "[3]", '[{"function": {}}]', "["):
        path.write_text(broken)
        with pytest.raises(MoedgeError, match="is not"):
            read_tools(path)
    path.write_text(json.dumps(tools := [{"type": "function", "function": {"name": "f"}}]))
    assert read_tools(path) == tools


def test_a_conversation_feeds_only_what_is_new(bundle):
    engine = Engine.load(bundle)
    conversation = Conversation(engine, SamplingParams(temperature=0), system="s")
    conversation.say("hi")
    first = conversation.begin()
    assert list(conversation.stream(first)) == [Reasoning("h"), Reasoning("m"), *map(Content, "yés!")]
    assert conversation.messages[-1] == {"role": "assistant", "content": "yés!", "reasoning_content": "hm"}
    conversation.say("ho")
    second = conversation.begin()
    assert second.cached_tokens == first.prompt_tokens  # the template leaves thinking out of what follows
    list(conversation.stream(second))
    assert "cached" in numbers(second)
    conversation.clear()
    assert [message["role"] for message in conversation.messages] == ["system"]


def test_parts_of_an_answer_add_up_to_a_message():
    parts = [Content("a"), CallStart(0, "f:0", "f"), CallArguments(0, '{"x":'), CallArguments(0, "1}"), Content("b")]
    assert assistant_message(parts) == {
        "role": "assistant",
        "content": "ab",
        "tool_calls": [{"id": "f:0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
    }


def test_an_answer_that_is_stopped_ends_and_can_be_followed_by_another(tmp_path):
    engine = Engine.load(write_tiny_bundle(tmp_path, context_length=1_000_000))
    session = engine.session()
    answer = Answer(engine, session, [5, 6], SamplingParams(temperature=9, ignore_eos=True))
    for _ in answer:
        if answer.generated_tokens == 5:
            answer.stop()
    assert answer.finish_reason is None
    assert 5 <= answer.generated_tokens < 10_000
    assert numbers(answer).endswith(", stopped")
    again = Answer(engine, session, [5, 6], SamplingParams(temperature=0, max_tokens=1))
    assert len(list(again)) == 1
    assert numbers(again).endswith("cut at the limit of tokens")


def test_a_failure_of_the_model_reaches_the_caller(tmp_path):
    engine = Engine.load(write_tiny_bundle(tmp_path, poison=5))
    with pytest.raises(MoedgeError, match="not numbers"):
        list(Answer(engine, engine.session(), [5], SamplingParams()))


def test_calls_are_json_lines_in_a_pipe(capsys):
    screen = Screen()
    screen.show(Content("so"))
    screen.show(CallStart(0, "f:0", "f"))
    screen.show_calls([Call("f:0", "f", "{}")])
    screen.end_line()
    assert capsys.readouterr().out == 'so\n{"id": "f:0", "name": "f", "arguments": "{}"}\n'


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
class TestOnATerminal:
    """`moedge run` under a pseudo-terminal, as a person sees it."""

    def start(self, *words: str) -> tuple[subprocess.Popen[bytes], int]:
        import pty

        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "moedge.runtime", "run", *words]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        return process, ours

    def read_until(self, terminal: int, wanted: str, seconds: float = 60) -> str:
        import select

        seen, end = b"", time.monotonic() + seconds
        while wanted.encode() not in seen:
            assert time.monotonic() < end, seen.decode(errors="replace")
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:
                    break
        return seen.decode()

    def test_thinking_is_dim_and_numbers_follow(self, bundle):
        process, terminal = self.start(str(bundle), "hi", "--temperature", "0")
        shown = self.read_until(terminal, "answer ")
        assert "\x1b[2mh\x1b[0m" in shown
        assert "yés!\r\n" in shown
        assert "prompt 5 tokens" in shown
        assert process.wait(60) == 0

    def test_a_chat_remembers_and_ends_with_ctrl_d(self, bundle):
        process, terminal = self.start(str(bundle), "--temperature", "0")
        self.read_until(terminal, "> ")
        os.write(terminal, b"hi\n")
        assert "prompt 5 tokens" in self.read_until(terminal, "\x1b[0m\r\n> ")
        os.write(terminal, b"ho\n")
        shown = self.read_until(terminal, "\x1b[0m\r\n> ")
        assert "(5 cached)" in shown
        os.write(terminal, b"hi" * 50 + b"\n")
        assert "the context is 64" in self.read_until(terminal, "taken back.)\x1b[0m\r\n> ")
        os.write(terminal, b"\x04")
        assert process.wait(60) == 0

    def test_ctrl_c_ends_the_answer(self, tmp_path):
        bundle = write_tiny_bundle(tmp_path / "b", context_length=1_000_000)
        process, terminal = self.start(str(bundle), "hi", "--raw", "--temperature", "9", "--seed", "1")
        self.read_until(terminal, "x")
        process.send_signal(signal.SIGINT)
        assert "stopped" in self.read_until(terminal, "stopped")
        assert process.wait(60) == 130
