"""The `llm` command line, with the server as one more OpenAI model."""

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
    lines = [f"- model_id: {MODEL}", f"  model_name: {MODEL}", f"  api_base: {url}", "  supports_tools: true"]
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


def test_a_function_is_called(llm):
    assert "kitchen" in llm("--functions", FUNCTION, "turn on the kitchen light")
