"""`--target-size` and `--target-kl` as words: sizes, what they exclude, and which schemes there are to choose from."""

import pytest

from moedge.devices.errors import MoedgeError
from moedge.export.options import ExportOptions
from moedge.export.targets import TargetKl, TargetSize, ladder_of, parse_size, parse_target, plan_cheapest
from moedge.runtime.cli import main
from moedge.runtime.manifest import ATTENTION, EMBEDDING, LM_HEAD, ROUTED_EXPERTS


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("900MB", 900_000_000), ("1.5GB", 1_500_000_000), ("800 MiB", 800 << 20), ("2gib", 2 << 30), ("12kB", 12_000),
        ("0.5KiB", 512), ("123456", 123_456), ("7B", 7), ("1TB", 10**12),
    ],
)  # fmt: skip
def test_sizes(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "1e9", "5 bits", "1,5GB", "nan", "0", "0.1B", "5Mb/s", "infGB"])
def test_what_is_no_size(text):
    with pytest.raises(MoedgeError, match=r"--target-size .*900MB.*\.$"):
        parse_size(text)


@pytest.mark.parametrize("kl", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_divergence(kl):
    with pytest.raises(MoedgeError, match=r"--target-kl .* is no divergence that can be reached: give one above 0"):
        parse_target(None, kl)


def test_there_is_one_target_or_none():
    assert parse_target(None, None) is None
    assert parse_target("1kB", None) == TargetSize(1000)
    assert parse_target(None, 0.05) == TargetKl(0.05)
    with pytest.raises(MoedgeError, match="given together: leave one out"):
        parse_target("1kB", 0.05)


def test_the_command_takes_a_scheme_or_a_target(tmp_path, capsys):
    words = ["export", str(tmp_path), "-o", str(tmp_path / "bundle"), "--target-size", "1GB"]
    assert main([*words, "--scheme", "balanced"]) == 1
    assert main([*words, "--target-kl", "0.1"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "--scheme says what --target-size and --target-kl would measure" in errors[0]
    assert "given together" in errors[1]


def test_groups_that_are_fixed_are_a_part_of_the_plan():
    plan = plan_cheapest(TargetSize(10**9), ["attention=int8", "routed-experts=int4-block32-zp"])
    assert plan.name == "target-size 1000000000, attention=int8-block32, routed-experts=int4-block32-zp"
    assert plan.asked == {ATTENTION, ROUTED_EXPERTS}
    assert [plan.of(group).name for group in (ATTENTION, EMBEDDING)] == ["int8-block32", "int5-block64"]
    assert ExportOptions(plan, target=TargetSize(10**9)).decided().plan != "if"
    assert ExportOptions(plan_cheapest(TargetKl(0.1), ["routed-experts=fp32"])).decided().plan == "if"
    with pytest.raises(MoedgeError, match="no group 'router'"):
        plan_cheapest(TargetKl(0.1), ["router=int8"])


def test_the_table_never_has_four_bits_and_whole_bytes_are_four_or_eight():
    for group in (EMBEDDING, LM_HEAD):
        assert [scheme.bits for scheme in ladder_of(group, False)] == [5, 6, 8]
        assert [scheme.bits for scheme in ladder_of(group, True)] == [8]
    for group in (ATTENTION, ROUTED_EXPERTS):
        assert [scheme.bits for scheme in ladder_of(group, False)] == [4, 5, 6, 8]
        assert [scheme.bits for scheme in ladder_of(group, True)] == [4, 8]
