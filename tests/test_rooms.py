"""Imports run one way: between stages, between the rooms of a stage, and never in a circle."""

from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from house import REGISTER_FOLDER, ROOT, imports_of, module_of, package_folders, sources, stage_of

# Stage to the stages it may import; anything else inside moedge is against the arrows of the architecture.
MAY_IMPORT = {
    "devices": set(),
    "quant": set(),
    "export": {"quant", "devices"},
    "runtime": {"devices"},
    "edge_server": {"runtime", "devices"},
}
# The same between the rooms of a stage; a stage's own files lie above all of them, but for what is named here.
ROOMS_MAY_IMPORT = {
    "export/calibration": {
        "export/checkpoint",
        "export/model",
        "export/graph",
        "export/streaming",
        "export/tokenizer",
    },
    "export/checkpoint": set(),
    "export/model": {"export/checkpoint"},
    "export/families": {"export/checkpoint", "export/model"},
    "export/writing": {"export/checkpoint"},
    "export/tokenizer": {"export/checkpoint"},
    "export/graph": {"export/checkpoint", "export/model", "export/writing"},
    "export/planning": {
        "export/checkpoint",
        "export/families",
        "export/graph",
        "export/hub",
        "export/model",
        "export/rehearsal",
        "export/report",
        "export/schemes",
        "export/tokenizer",
        "export/writing",
    },
    "export/streaming": {"export/checkpoint", "export/model", "export/graph", "export/writing"},
    "export/sensitivity": {
        "export/calibration",
        "export/checkpoint",
        "export/model",
        "export/graph",
        "export/streaming",
        "export/tokenizer",
        "export/writing",
        "export/options",
        "export/rehearsal",
        "export/targets",
    },
    "export/evaluation": {
        "export/checkpoint",
        "export/model",
        "export/graph",
        "export/streaming",
        "export/options",
        "export/understanding",
        "export/rehearsal",
    },
    "export/hub": {
        "export/planning",
        "export/checkpoint",
        "export/writing",
        "export/options",
        "export/understanding",
        "export/rehearsal",
        "export/sensitivity",
    },
    "edge_server/anthropic": {
        "edge_server/answering",
        "edge_server/call_ids",
        "edge_server/errors",
        "edge_server/fields",
        "edge_server/json_body",
        "edge_server/messages",
        "edge_server/models",
        "edge_server/observing",
        "edge_server/query",
        "edge_server/questions",
        "edge_server/replies",
        "edge_server/response_format",
        "edge_server/sampling_fields",
        "edge_server/service",
        "edge_server/tool_choice",
    },
    "edge_server/configuration": {
        "edge_server/models",
        "edge_server/sampling_fields",
    },
    "edge_server/models": {
        "edge_server/errors",
        "edge_server/guard",
        "edge_server/questions",
        "edge_server/replies",
        "edge_server/response_format",
    },
    "edge_server/observing": {
        "edge_server/guard",
        "edge_server/models",
        "edge_server/query",
        "edge_server/service",
    },
    "edge_server/openapi": {
        "edge_server/anthropic",
        "edge_server/foreign_fields",
        "edge_server/live_experts",
        "edge_server/messages",
        "edge_server/response_format",
        "edge_server/responses",
        "edge_server/sampling_fields",
        "edge_server/template_fields",
        "edge_server/tool_choice",
        "edge_server/wire",
    },
    "edge_server/responses": {
        "edge_server/answering",
        "edge_server/errors",
        "edge_server/fields",
        "edge_server/foreign_fields",
        "edge_server/guard",
        "edge_server/json_body",
        "edge_server/logprobs",
        "edge_server/messages",
        "edge_server/models",
        "edge_server/query",
        "edge_server/questions",
        "edge_server/replies",
        "edge_server/sampling_fields",
        "edge_server/service",
        "edge_server/wire",
    },
    "runtime/bench": {
        "runtime/batch",
        "runtime/engine",
        "runtime/session",
        "runtime/manifest",
        "runtime/integrity",
        "runtime/sizes",
        "runtime/token_bytes",
        "runtime/progress",
        "runtime/kernels",
    },
    "runtime/profiling": {
        "runtime/bench",
        "runtime/device_plan",
        "runtime/engine",
        "runtime/kernels",
        "runtime/manifest",
        "runtime/program",
        "runtime/progress",
        "runtime/sampling",
        "runtime/session",
    },
    "runtime/cache": {"runtime/manifest"},
    "runtime/chat": {"runtime/prompt_too_long"},
    "runtime/forms": {"runtime/chat", "runtime/chat/formats", "runtime/constraint"},
    "runtime/kernels": set(),
    "runtime/prefixes": {"runtime/cache", "runtime/manifest"},
    "runtime/chat/formats": {"runtime/chat", "runtime/manifest"},
    "quant/formats": {"quant/blocks", "quant/four_bit_floats", "quant/grids", "quant/scheme"},
}
MANIFEST = "moedge.runtime.manifest"  # the one contract that `export` shares with `runtime`
# whether moedge's kernels are here decides what an export makes unless it is told
KERNELS = "moedge.runtime.kernels.library"
# the rooms that measure, and plan, what `export` makes by what `runtime` serves; nothing of `runtime` imports them
BY_RUNTIME = (ROOT / "export" / "evaluation", ROOT / "export" / "planning")
COMMAND = "moedge.runtime.cli"  # what a stage's `__main__` and optimum's command, which nobody imports, hand over to


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    stage = stage_of(path)
    for name, _ in imports_of(path):
        if not name.startswith("moedge."):
            continue
        other = name.split(".")[1]
        contract = stage == "export" and (name == MANIFEST or name.startswith(f"{MANIFEST}."))
        nobody_imports = path.name == "__main__.py" or path.parent == REGISTER_FOLDER
        command = nobody_imports and name.startswith(COMMAND)
        kernels = path == ROOT / "export" / "options.py" and name == KERNELS
        measured = path.parent in BY_RUNTIME and other == "runtime"
        told = contract or command or kernels or measured
        assert other in MAY_IMPORT[stage] | {stage} or told, f"{path} imports {name}"


@pytest.mark.parametrize("room", ROOMS_MAY_IMPORT)
def test_rooms_import_one_way(room: str) -> None:
    stage = room.partition("/")[0]
    for path in (ROOT / room).glob("*.py"):
        for name, _ in imports_of(path):
            other = "/".join(name.split(".")[1:])
            if name.startswith(f"moedge.{stage}.") and not other.startswith(f"{room}/"):
                allowed = ROOMS_MAY_IMPORT[room]
                assert any(other.startswith((f"{one}/", one)) for one in allowed), f"{path} imports {name}"


def test_every_stage_and_every_room_has_its_rule() -> None:
    assert set(MAY_IMPORT) == {stage_of(path) for path in sources()}
    rooms = {folder.relative_to(ROOT).as_posix() for folder in package_folders()}
    assert {room for room in rooms if "/" in room} == set(ROOMS_MAY_IMPORT)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for types alone count: what needs another's types cannot be understood without it."""
    graph = {module_of(path): {name for name, at_once in imports_of(path) if at_once} for path in sources()}
    assert len(graph) > 100
    assert "moedge.runtime.distribution" in graph["moedge.runtime.sampling"]
    TopologicalSorter(graph).prepare()  # CycleError names the circle
