"""Descriptions of a CPU that lie are refused before a model is loaded; what may not run is tried in a child first.

tests/arm shows the same on emulated CPUs; here the kernel's word, a function, is made up.
"""

import faulthandler
import os
import re
import signal
from dataclasses import replace

import pytest

from moedge.devices import instructions
from moedge.devices.cores import Cluster
from moedge.devices.detect import Machine
from moedge.devices.errors import MoedgeError
from moedge.devices.instructions import (
    AT_HWCAP,
    AT_HWCAP2,
    WITH_DOT,
    real_isa,
    refuse_misnamed,
    refuse_missing,
    survives,
)
from moedge.devices.profile import load_profile
from moedge.runtime import settling
from moedge.runtime.settling import settle

PI5_ISA = ("asimd", "fphp", "asimdhp", "asimddp")
# What Linux gives a Cortex-A76, a Cortex-A72, and a CPU with all that is asked for.
PI5_WORDS = {AT_HWCAP: 0x119FFF, AT_HWCAP2: 0}
PI4_WORDS = {AT_HWCAP: 0x887, AT_HWCAP2: 0}
ALL_WORDS = {AT_HWCAP: (1 << 32) - 1, AT_HWCAP2: (1 << 32) - 1}


def board(core="Cortex-A76", isa=PI5_ISA, **changes):
    """Four cores of a kind, as they are detected."""
    machine = Machine(
        architecture="aarch64",
        cpu=core,
        board="",
        isa=isa,
        logical_cpus=4,
        cores=4,
        fast_cores=4,
        cpu_quota=None,
        memory_bytes=8 << 30,
        memory_limit_bytes=None,
        clusters=(Cluster(core, 4, 2400),),
        fast_cpus=(0, 1, 2, 3),
    )
    return replace(machine, **changes)


@pytest.fixture
def kernel(monkeypatch):
    """Makes the kernel say what the CPU has, None for one that says nothing to programs."""
    return lambda isa: monkeypatch.setattr(settling, "real_isa", lambda architecture: isa)


@pytest.fixture
def kernels(monkeypatch):
    """Replaces moedge's own, which are for this machine."""
    return lambda work: monkeypatch.setattr(settling, "_try_kernels", work)


def die():
    faulthandler.disable()  # pytest's
    os.kill(os.getpid(), signal.SIGILL)


def never():
    raise AssertionError("nothing is tried")


@pytest.mark.parametrize(
    ("words", "isa"),
    [
        (PI5_WORDS, PI5_ISA),
        (PI4_WORDS, ("asimd",)),
        ({AT_HWCAP: 0, AT_HWCAP2: 0}, ()),
        ({AT_HWCAP: 0, AT_HWCAP2: 1 << 13}, ("i8mm",)),
        ({AT_HWCAP: 1 << 22, AT_HWCAP2: 1 << 1 | 1 << 9}, ("sve", "sve2", "svei8mm")),
    ],
)
def test_the_kernel_s_word_is_read_bit_by_bit(words, isa):
    assert real_isa("aarch64", words.__getitem__) == isa


def test_every_flag_has_a_bit_of_its_own():
    found = real_isa("aarch64", ALL_WORDS.__getitem__)
    each = [
        real_isa("aarch64", {AT_HWCAP: 0, AT_HWCAP2: 0, w: 1 << b}.__getitem__) for w in ALL_WORDS for b in range(32)
    ]
    assert sorted(flag for flags in each for flag in flags) == sorted(found)
    assert max(map(len, each)) == 1


def test_elsewhere_nothing_is_told(monkeypatch):
    assert real_isa("x86_64", ALL_WORDS.__getitem__) is None
    monkeypatch.setattr(instructions.sys, "platform", "darwin")
    assert real_isa("aarch64", ALL_WORDS.__getitem__) is None


def test_the_running_kernel_is_asked():
    assert isinstance(real_isa("aarch64"), tuple)  # its bits mean something else on x86


def test_what_is_stated_must_be_there():
    refuse_missing("device profile rk3588", ("asimd",), PI5_ISA)
    refuse_missing("device profile rk3588", ("i8mm",), None)
    with pytest.raises(MoedgeError) as refused:
        refuse_missing("device profile rk3588", (*PI5_ISA, "i8mm"), ("asimd", "fphp", "asimdhp"))
    assert str(refused.value) == (
        "device profile rk3588 says that this CPU has asimddp, i8mm, and it has not, so what is made for such a CPU "
        "would crash here: take `--device auto`, or correct the description."
    )


def test_auto_is_no_way_out_of_what_the_system_says():
    with pytest.raises(MoedgeError, match="would crash here: correct the description"):
        refuse_missing("/proc/cpuinfo", PI5_ISA, ("asimd",))


@pytest.mark.parametrize("core", ["Cortex-A76", "Neoverse-V2"])
def test_a_name_says_something_too(core):
    refuse_misnamed([core], PI5_ISA)
    refuse_misnamed([core], None)
    refuse_misnamed(["Cortex-A72", "Cortex-A55", ""], ("asimd",))
    with pytest.raises(MoedgeError, match=f"calls this CPU a {core}, which has asimddp, and it has not") as refused:
        refuse_misnamed(["Cortex-A55", core], ("asimd",))
    assert "--experts native" in str(refused.value)
    assert core in WITH_DOT


def test_a_child_is_watched_to_its_end(capfd):
    assert survives(lambda: None) is None
    assert survives(die) == "signal SIGILL"
    assert survives(never) == "an error"
    assert "Traceback" not in capfd.readouterr().err


def test_a_child_s_work_is_done_in_the_child():
    done = []
    assert survives(lambda: done.append(1)) is None
    assert done == []


def test_a_child_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(instructions, "LONGEST_S", 1)
    assert survives(signal.pause) == "signal SIGALRM"


def test_without_children_the_work_is_done_here(monkeypatch):
    done = []
    monkeypatch.delattr(os, "fork")
    assert survives(lambda: done.append(1)) is None
    assert done == [1]


def test_a_profile_of_another_architecture_is_refused():
    here = board(architecture="x86_64", isa=("avx2",))
    with pytest.raises(MoedgeError) as refused:
        settle(load_profile("raspberry-pi-5-8gb", board()), "native", here)
    assert str(refused.value) == (
        "device profile raspberry-pi-5-8gb is for aarch64 and this machine is x86_64: take `--device auto`."
    )


@pytest.mark.parametrize("plan", ["native", "fused", "if"])
def test_a_true_description_is_settled_without_a_child(plan, kernel, kernels):
    kernel(PI5_ISA)
    kernels(never)
    settle(load_profile("auto", board()), plan, board())


@pytest.mark.parametrize("plan", ["native", "fused"])
def test_a_system_that_says_too_much_is_refused(plan, kernel, kernels):
    kernel(("asimd",))
    kernels(never)
    with pytest.raises(MoedgeError, match=re.escape("/proc/cpuinfo says that this CPU has fphp, asimdhp, asimddp")):
        settle(load_profile("auto", board()), plan, board())


def test_a_profile_that_says_too_much_is_refused(kernel, kernels):
    kernel(("asimd",))
    kernels(never)
    here = board("Cortex-A72", ("asimd",))
    with pytest.raises(MoedgeError, match="device profile raspberry-pi-5-8gb says that this CPU has fphp"):
        settle(load_profile("raspberry-pi-5-8gb", here), "native", here)


def test_where_the_kernel_says_nothing_the_system_is_believed(kernel):
    kernel(None)
    here = board("Test CPU", ("avx2",), architecture="x86_64")
    settle(load_profile("auto", here), "native", here)
    with pytest.raises(MoedgeError, match="device profile x86-64-avx512-vnni says that this CPU has "):
        settle(load_profile("x86-64-avx512-vnni", here), "native", here)


def test_where_two_descriptions_differ_the_kernels_are_tried_first(kernel, kernels):
    kernel((*PI5_ISA, "i8mm"))
    profile = load_profile("auto", board())
    kernels(lambda: None)
    settle(profile, "native", board())
    kernels(die)
    with pytest.raises(MoedgeError) as refused:
        settle(profile, "native", board())
    assert "do not run on this CPU (signal SIGILL)" in str(refused.value)
    assert "MOEDGE_ISA" in str(refused.value)
    settle(profile, "fused", board())  # which has none of them


@pytest.mark.parametrize("plan", ["fused", "if"])
def test_onnxruntime_s_kernels_need_the_right_name(plan, kernel, kernels):
    """It takes the instructions of a Cortex-A76 for given, whatever else is said."""
    kernel(("asimd",))
    kernels(never)
    here = board("Cortex-A76", ("asimd",))
    settle(load_profile("auto", here), "native", here)
    with pytest.raises(MoedgeError, match="calls this CPU a Cortex-A76, which has asimddp, and it has not"):
        settle(load_profile("auto", here), plan, here)


@pytest.mark.parametrize(("fast_cpus", "moved"), [((4, 5, 6, 7), [(4, 5, 6, 7)]), (tuple(range(8)), [])])
def test_threads_stay_on_fast_cores_where_there_are_slow_ones(fast_cpus, moved, kernel, monkeypatch):
    seen = []
    monkeypatch.setattr(settling, "stay_on", seen.append)
    kernel(None)
    clusters = (Cluster("Cortex-A76", 4, 2400), Cluster("Cortex-A55", 4, 1800))
    here = board(isa=("asimd",), clusters=clusters, fast_cpus=fast_cpus, cores=8, logical_cpus=8)
    profile = load_profile("auto", here)
    settle(replace(profile, affinity="fast"), "native", here)
    assert seen == moved
    settle(replace(profile, affinity="all"), "native", here)
    assert seen == moved
