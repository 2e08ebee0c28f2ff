"""Vercel's `ai` through its providers: loops of tools, objects of a schema, streams, calls that must be made."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MODEL

PACKAGES = Path(os.environ.get("AI_PACKAGES", "build/ai-package"))
LIGHT = {"room": "kitchen", "on": True}


@pytest.fixture(scope="module")
def script():
    """Beside the packages, where node looks for them."""
    if shutil.which("node") is None or not (PACKAGES / "node_modules" / "ai").is_dir():
        pytest.skip(f"node, or npm's package ai in {PACKAGES}, is not there")
    return shutil.copy(Path(__file__).with_name("ai_client.mjs"), PACKAGES)


@pytest.mark.parametrize("provider", ["chat", "responses", "compatible", "anthropic"])
def test_loops_objects_and_streams(url, script, provider):
    command = ["node", script, url, MODEL, provider]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["failures"]
    for loop in found["loops"]:
        assert loop["steps"] == 2 and "kitchen" in loop["text"]
    assert found["calls"][:2] == [LIGHT, LIGHT]
    assert all(set(light) == {"room", "on"} and isinstance(light["on"], bool) for light in found["objects"])
    assert found["finished"] == ["stop", "stop", "tool-calls", "tool-calls"]
    assert found["tokens"] > 0
