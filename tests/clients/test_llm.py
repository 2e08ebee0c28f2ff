"""The `llm` command line, with the server as one more OpenAI model: prompts, tools, schemas, and a chat that goes on."""

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
    light = json.loads(llm("--schema", "room, on bool", "turn on the kitchen light"))
    assert set(light) == {"room", "on"} and isinstance(light["on"], bool)
    lights = json.loads(llm("--continue", "--schema-multi", "room", "and the others"))
    assert set(lights) == {"items"}
