"""The `llm` command line, with the server as one more OpenAI model: prompts, tools, schemas, chats that go on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MODEL

FUNCTION = """
def set_light(room: str, on: bool) -> str:
    "Turn a light on or off"
    return "ok"
"""


@pytest.fixture
def llm(url, tmp_path):
    lines = [f"- model_id: {MODEL}", f"  model_name: {MODEL}", f"  api_base: {url}"]
    lines += ["  supports_tools: true", "  supports_schema: true"]
    (tmp_path / "extra-openai-models.yaml").write_text("\n".join(lines))
    command = shutil.which("llm", path=str(Path(sys.executable).parent))
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}

    def run(*words):
        arguments = [command, "-m", MODEL, *words]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    return run


@pytest.mark.parametrize("words", [(), ("--no-stream",)])
def test_a_prompt_is_answered(llm, words):
    assert llm(*words, "hello").strip()


@pytest.mark.parametrize("words", [(), ("--no-stream",)])
def test_a_function_is_called(llm, words):
    assert "kitchen" in llm(*words, "--functions", FUNCTION, "turn on the kitchen light")


def test_an_answer_of_a_schema_and_what_follows_it(llm):
    properties = {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}}
    schema = json.dumps({"type": "object", "properties": properties, "required": ["room", "on"]})
    for words in (("turn on the kitchen light",), ("--continue", "turn it off again"), ("--no-stream", "hello")):
        light = json.loads(llm("--schema", schema, "-o", "max_tokens", "400", *words))
        assert light["room"] in ("kitchen", "hall") and isinstance(light["on"], bool)
