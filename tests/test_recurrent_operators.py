"""moedge.CausalConvolution, DeltaNet and Mamba2 inside of ONNX Runtime against double precision."""

import numpy as np
import pytest
from attention_cases import error
from native import needs_kernels
from recurrent_cases import Causal, Delta, Selective, in_steps, join, make_memory, part, run_node

pytestmark = needs_kernels
CASES = {
    "convolution": Causal(),
    "convolution, wide": Causal(channels=1100, bias=False),
    "convolution, narrow": Causal(channels=7, kernel=2),
    "convolution, more taps than tokens": Causal(kernel=90),
    "delta rule": Delta(),
    "delta rule, a key head for each": Delta(key_heads=3, value_heads=3, key_dim=16, value_dim=16),
    "delta rule, odd": Delta(key_heads=1, value_heads=2, key_dim=7, value_dim=19),
    "delta rule, wide": Delta(key_heads=1, value_heads=1, key_dim=192, value_dim=136),
    "delta rule, each channel": Delta(per_channel=True, gate="sigmoid"),
    "delta rule, each channel, bounded": Delta(per_channel=True, bounded=True, gate="sigmoid", key_dim=40),
    "delta rule, bounded": Delta(bounded=True),
    "delta rule, little forgotten": Delta(rate=0.01),
    "Mamba-2": Selective(),
    "Mamba-2, one group": Selective(groups=1, norm_groups=1, heads=3),
    "Mamba-2, odd": Selective(head_dim=21, size=5, heads=6, groups=3, norm_groups=6),
    "Mamba-2, limits": Selective(limits=(0.3, 1.1), head_dim=80, size=130),
}
USUAL = {"convolution": Causal(channels=600), "delta rule": Delta(key_dim=64, per_channel=True), "Mamba-2": Selective()}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
EACH = pytest.mark.parametrize("case", USUAL.values(), ids=USUAL)


@EVERY
def test_it_is_what_its_formula_says(case):
    given, memory = case.given(70), make_memory(case)
    found = run_node(case.open(), given, [(70, 0, 3)], memory)
    wanted, state = case.expect(given, memory[0])
    assert error(found, wanted) < 2e-6
    assert error(memory[3], state) < 2e-6
    assert np.isnan(memory[[1, 2, 4, 5]]).all()
    assert not memory[0].any()


@EVERY
@pytest.mark.parametrize("steps", [(1,) * 40, (2, 0, 31, 7), (17, 23)], ids=str)
def test_in_steps_it_is_the_same_bits(case, steps):
    given, session = case.given(40), case.open(2)
    whole = make_memory(case)
    wanted = run_node(case.open(), given, [(40, 0, 4)], whole)
    found, state = in_steps(case, session, given, make_memory(case), steps)
    assert np.array_equal(found, wanted)
    assert np.array_equal(state, whole[4])


@EACH
def test_a_timeline_is_the_same_beside_others(case):
    """Of three, two begin with the state of one: a fork."""
    given, memory, alone = [case.given(30, seed) for seed in range(3)], make_memory(case), make_memory(case)
    first, third = case.open(1), case.open(3)
    begun = run_node(first, part(given[0], 0, 9), [(9, 0, 1)], alone)
    spans = (9, 30), (0, 1), (0, 25)
    wanted = [
        run_node(first, part(one, *span), [(span[1] - span[0], 1, 2 + i)], alone)
        for i, (one, span) in enumerate(zip(given, spans, strict=True))
    ]
    assert np.array_equal(run_node(third, part(given[0], 0, 9), [(9, 0, 1)], memory), begun)
    together = join(part(given[2], 0, 25), part(given[1], 0, 1), part(given[0], 9, 30))
    found = run_node(third, together, [(25, 1, 4), (1, 1, 3), (21, 1, 2)], memory)
    assert np.array_equal(found, np.concatenate(wanted[::-1]))
    assert np.array_equal(memory[:5], alone[:5])


@EACH
def test_a_run_can_be_repeated_and_no_tokens_copy(case):
    given, memory, session = case.given(5), make_memory(case), case.open()
    first = run_node(session, given, [(5, 0, 1)], memory)
    kept = memory.copy()
    assert np.array_equal(run_node(session, given, [(5, 0, 1)], memory), first)
    assert np.array_equal(memory, kept, equal_nan=True)
    run_node(session, part(given, 0, 0), [(0, 1, 2), (0, 1, 5)], memory)
    assert np.array_equal(memory[2], kept[1])
    assert np.array_equal(memory[5], kept[1])
    assert run_node(session, part(given, 0, 0), [], memory).shape == (0, first.shape[1])


@EACH
def test_what_is_no_number_stays_in_its_timeline(case):
    given, memory, session = case.given(6), make_memory(case), case.open(2)
    for name in given:
        wrong = {n: a.copy() for n, a in given.items()}
        wrong[name][2, 0] = np.nan
        found = run_node(session, join(wrong, given), [(6, 0, 1), (6, 0, 2)], memory)
        assert np.isfinite(found[:2]).all()
        assert np.isnan(found[2]).any(), name
        assert np.isfinite(found[6:]).all()


@pytest.mark.parametrize("raw", [-60.0, -20.0, -3.0, 0.0, 3.0, 30.0, 1e4])
def test_softplus_has_its_digits_on_both_sides(raw):
    """With one token, no gate's doing and a state of 1, what is left of the state is e^(A softplus(x))."""
    case = Delta(key_heads=1, value_heads=1, key_dim=4, value_dim=4)
    rate = -1e4 if raw < -10 else -1e-3
    case.constants["A"][:], case.constants["dt_bias"][:] = rate, 0
    given, memory = case.given(1), make_memory(case)
    given["decay"][:], given["beta"][:] = raw, -1e30
    memory[1] = 1
    run_node(case.open(), given, [(1, 1, 2)], memory)
    wanted = max(rate * np.logaddexp(0, np.float64(raw)), -87)
    assert np.log(memory[2].astype(np.float64)) == pytest.approx(wanted, rel=1e-6, abs=6e-8)


REFUSED = {
    "read outside": ([(4, 6, 1)], "a segment's state is outside of the memory"),
    "written outside": ([(4, 0, -1)], "a segment's state is outside of the memory"),
    "read and written": ([(4, 1, 1)], "a state is read and written at once"),
    "written by another": ([(2, 0, 1), (2, 1, 2)], "a state is read and written at once"),
    "written twice": ([(2, 0, 1), (2, 0, 1)], "two segments write the same state"),
    "too many tokens": ([(3, 0, 1), (2, 0, 2)], "segments have more tokens than there are"),
    "less than none": ([(5, 0, 1), (-1, 0, 2)], "segments have more tokens than there are"),
    "too few tokens": ([(3, 0, 1)], "segments have fewer tokens than there are"),
}


@EACH
@pytest.mark.parametrize(("segments", "why"), REFUSED.values(), ids=REFUSED)
def test_segments_that_are_refused(case, segments, why):
    memory = make_memory(case)
    with pytest.raises(Exception, match=why):
        run_node(case.open(), case.given(4), segments, memory)
    assert np.isnan(memory[1:]).all()


@EACH
def test_shapes_that_are_refused(case):
    given, session = case.given(4), case.open()
    for name, array in given.items():
        with pytest.raises(Exception, match="fit"):
            run_node(session, given | {name: np.ascontiguousarray(array[:, 1:])}, [(4, 0, 1)], make_memory(case))
    with pytest.raises(Exception, match="the memory does not fit"):
        run_node(session, given, [(4, 0, 1)], np.ascontiguousarray(make_memory(case)[..., 1:]))
    for name in ("segments", "states"):
        binding = session.io_binding()
        memory = make_memory(case)
        told = {"segments": np.array([[0, 0, 4]]), "states": np.array([[0, 1]])}
        told[name] = np.concatenate([told[name], told[name][:, :1]], axis=1)
        for key, array in (given | told | {"memory": memory}).items():
            binding.bind_cpu_input(key, array)
        binding.bind_output("out", "cpu")
        binding.bind_output("present", "cpu", 0, np.float32, memory.shape, memory.ctypes.data)
        with pytest.raises(Exception, match=f"the {name} do not fit"):
            session.run_with_iobinding(binding)


@EACH
def test_a_memory_that_is_elsewhere_is_refused(case):
    told = {"segments": np.array([[0, 0, 4]]), "states": np.array([[0, 1]])}
    with pytest.raises(Exception, match="the memory is not bound as input and output at once"):
        case.open().run(None, case.given(4) | told | {"memory": make_memory(case)})


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [
        (Causal(), "kernel", 1),
        (Delta(), "value_heads", 3),
        (Delta(), "decay", "none"),
        (Delta(bounded=True), "lower_bound", 0.0),
        (Delta(), "gate_activation", "relu"),
        (Selective(), "groups", 3),
        (Selective(), "norm_groups", 5),
        (Selective(), "dt_max", -1.0),
    ],
)
def test_attributes_that_are_refused(case, name, value):
    with pytest.raises(Exception, match=f"attribute {name} is missing or has a value that does not fit"):
        case.open(**{name: value})
