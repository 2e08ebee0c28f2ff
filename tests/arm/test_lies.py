"""Descriptions that lie end in a sentence, before anything runs that the CPU does not know."""

import pytest

MISSING = "says that this CPU has fphp, asimdhp, asimddp, and it has not"


def refusal(done):
    """The sentence that a command ends with."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    [line] = done.stderr.splitlines()  # qemu has one of its own for each illegal instruction
    return line


@pytest.mark.parametrize("verb", ["run", "serve"])
def test_a_system_that_says_it_is_a_pi_5_on_a_pi_4(runs, verb):
    if "asimddp" not in runs["read", "cpuinfo"].stdout:
        pytest.skip("this qemu shows programs the /proc/cpuinfo of the CPU that it emulates, so that none can lie")
    assert refusal(runs[verb, "cpuinfo"]).startswith(f"moedge: /proc/cpuinfo {MISSING}")


def test_the_profile_of_a_pi_5_on_a_pi_4(runs):
    assert refusal(runs["run", "profile"]).startswith(f"moedge: device profile raspberry-pi-5-8gb {MISSING}")


def test_onnxruntime_is_imported_whatever_the_system_says(runs):
    """It is imported before moedge looks, so it must get that far."""
    done = runs["import", "max"]
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr
