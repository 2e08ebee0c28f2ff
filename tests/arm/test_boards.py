"""moedge on each board: what it detects, which kernels it takes, and that it notices a child that dies."""

import json


def test_detection_gives_the_right_profile(board, runs, fact):
    auto, *profiles = runs["devices", board.name]
    machine = auto["machine"]
    fact("profile", auto["nearest"])
    fact("instructions", " ".join(machine["isa"]))
    assert auto["nearest"] == board.profile
    assert [profile["name"] for profile in profiles if profile["nearest"]] == [board.profile]
    assert tuple(machine["isa"]) == tuple(auto["isa"]) == board.isa
    assert (machine["architecture"], machine["board"]) == ("aarch64", board.model)
    assert machine["memory_bytes"] == board.memory_kib * 1024
    assert {cluster["mhz"] for cluster in machine["clusters"]} == {board.mhz}


def test_kernels_take_the_best_instructions_there_are(board, runs, fact):
    said = json.loads(str(runs["model", board.name]["said"]))
    fact("moedge's kernels", said["kernels"])
    assert (said["machine"], said["kernels"]) == ("aarch64", board.kernels)
    assert set(board.isa) <= set(said["real"])


def test_a_child_that_dies_of_an_unknown_instruction_is_noticed(board, runs):
    said = json.loads(str(runs["model", board.name]["said"]))
    assert (said["killed"], said["ended"]) == ("signal SIGILL", None)
