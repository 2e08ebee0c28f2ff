"""moedge.LatentAttention inside of ONNX Runtime against double precision, in both of its forms."""

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import ROW_TYPES, error
from latent_cases import Latent, run_node
from native import needs_kernels

from moedge.quant.scheme import MXFP4, NVFP4, scheme_of

pytestmark = needs_kernels
SCHEMES = [
    *(
        scheme_of(bits, block, zero_point, scales)
        for bits, scales in ((4, "float16"), (5, "float8"), (6, "bfloat16"), (8, "float32"), (4, "float8"))
        for block in (16, 32, 64, 128)
        for zero_point in (False, True)
    ),
    MXFP4,
    replace(NVFP4, factor=0.25),
    None,
]
SPELT = ["fp32" if scheme is None else f"{scheme.name}-{scheme.scales}" for scheme in SCHEMES]
NARROW = scheme_of(5, 16, True, "float16")  # its blocks fit where columns are no multiples of much
CASES = {
    "plain": Latent(),
    "one head": Latent(heads=1),
    "many heads": Latent(heads=32, nope=16, v=16),
    "tile rows of two heads": Latent(heads=5, nope=20, v=12, rope=6, rank=48, scheme=NARROW),
    "narrower than a tile row": Latent(heads=3, nope=3, v=5, rope=2, rank=16, scheme=NARROW),
    "values wider than keys": Latent(nope=16, v=300, rank=32, scheme=None),
    "keys wider than a run": Latent(heads=2, nope=300, v=16, rank=40, scheme=None),
    "two sets of frequencies": Latent(switch=20),
    "many runs": Latent(capacity=1300),
}
FEW = {
    "one": [(1, 0, 1)],
    "some": [(2, 0, 9)],
    "deep": [(0, 50, 1)],
    "several": [(2, 17, 1), (0, 0, 5), (1, 30, 7)],
}
MANY = {"a prompt": [(1, 0, 60)], "and one": [(1, 0, 40), (2, 33, 1)], "a chunk": [(0, 21, 43)]}


def both(case, segments, threads=1):
    """What it gives and what is right, and both caches afterwards."""
    given = case.given(sum(new for *_, new in segments))
    cache, wanted = case.cache(), case.cache()
    right = case.expect(given, wanted, segments)
    return run_node(case.open(threads), given, segments, cache), right, cache, wanted


@pytest.mark.parametrize("segments", FEW.values(), ids=FEW)
@pytest.mark.parametrize("kind", ROW_TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_few_tokens_are_as_in_double_precision_but_for_the_values(case, kind, segments):
    """Of 8-bit activations only W_uv has some."""
    found, right, cache, wanted = both(replace(case, kind=kind), segments)
    assert error(found, right) < (1e-2 if case.scheme else 1e-5 if kind == "float32" else 1e-3)
    assert (cache != wanted).mean() < (0.2 if kind == "float32" else 0.02)
    found, right, *_ = both(replace(case, kind=kind, activation_bits=24), segments)
    assert error(found, right) < (1e-5 if kind == "float32" else 1e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=SPELT)
def test_every_scheme(scheme):
    case = Latent(scheme=scheme, rank=256)
    for segments in (FEW["several"], MANY["a prompt"]):
        found, right, *_ = both(replace(case, activation_bits=24), segments, 2)
        assert error(found, right) < 3e-6
        found, right, *_ = both(case, segments, 2)
        assert error(found, right) < 2e-2


@pytest.mark.parametrize("bits", [8, 24])
@pytest.mark.parametrize("segments", MANY.values(), ids=MANY)
@pytest.mark.parametrize("kind", ROW_TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_many_tokens(case, kind, segments, bits):
    found, right, *_ = both(replace(case, kind=kind, activation_bits=bits), segments, 2)
    assert error(found, right) < (2.5e-2 if bits == 8 else 1e-5 if kind == "float32" else 1e-3)


def test_the_two_forms_agree():
    """By 64 tokens at a time it is unabsorbed, one by one absorbed."""
    case = Latent(heads=4, rank=256, capacity=600, activation_bits=24)
    given, cache, other = case.given(512), case.cache(), case.cache()
    session = case.open(2)
    chunks = [
        run_node(session, {n: a[at : at + 64] for n, a in given.items()}, [(0, at, 64)], cache)
        for at in range(0, 512, 64)
    ]
    single = [
        run_node(session, {n: a[at : at + 1] for n, a in given.items()}, [(0, at, 1)], other) for at in range(512)
    ]
    assert np.array_equal(cache, other)
    assert error(np.concatenate(chunks), np.concatenate(single)) < 3e-6
    assert not np.array_equal(np.concatenate(chunks), np.concatenate(single))


PIECES = {"heads": 32, "rank": 512, "scheme": None}  # 44 tokens a piece, and all of them absorbed


@pytest.mark.parametrize("shape", [{}, PIECES], ids=["whole", "in pieces"])
@pytest.mark.parametrize("bits", [8, 24])
def test_threads_and_company_change_nothing(bits, shape):
    """Alone, beside others, and by any threads."""
    case = Latent(capacity=900, slots=4, activation_bits=bits, **shape)
    segments = [(3, 700, 1), (1, 0, 70), (0, 300, 1), (2, 100, 20)]
    given = case.given(92)
    caches = [case.cache() for _ in range(4)]
    whole, *others = (run_node(case.open(n), given, segments, c) for n, c in zip((1, 2, 8), caches, strict=False))
    assert all(np.array_equal(whole, other) for other in others)
    alone, at = [], 0
    for segment in segments:
        part = {n: np.ascontiguousarray(a[at : at + segment[2]]) for n, a in given.items()}
        alone.append(run_node(case.open(2), part, [segment], caches[3]))
        at += segment[2]
    assert np.array_equal(np.concatenate(alone), whole)
    assert np.array_equal(caches[3], caches[0])


def test_what_is_no_number_stays_in_its_timeline():
    case = Latent()
    given = case.given(3)
    given["row"][1, 5] = np.nan
    out = run_node(case.open(), given, [(0, 0, 1), (1, 0, 1), (2, 0, 1)], case.cache())
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


WRONG = {
    "a segment's slot is outside": [(3, 0, 4)],
    "positions are outside of the cache": [(0, 61, 4)],
    "two segments have the same slot": [(1, 0, 2), (1, 2, 2)],
    "fewer tokens than there are": [(1, 0, 3)],
}


@pytest.mark.parametrize(("said", "segments"), WRONG.items(), ids=WRONG)
def test_wrong_segments_are_refused(said, segments):
    case = Latent()
    with pytest.raises(Exception, match=rf"moedge\.LatentAttention: .*{said}"):
        run_node(case.open(), case.given(4), segments, case.cache())


def test_shapes_that_do_not_fit_are_refused():
    case = Latent()
    given, cache, session = case.given(4), case.cache(), case.open()
    for name, said in (("q", "the queries do not fit"), ("row", "the latent rows do not fit")):
        with pytest.raises(Exception, match=said):
            run_node(session, given | {name: np.ascontiguousarray(given[name][:, 1:])}, [(0, 0, 4)], cache)
    with pytest.raises(Exception, match="rows have a length of no type"):
        run_node(session, given, [(0, 0, 4)], np.zeros((1, 1, 64, 17), np.uint8))
    with pytest.raises(Exception, match="weights do not fit"):
        run_node(case.open(heads=2), {"q": given["q"][:, :96].copy(), "row": given["row"]}, [(0, 0, 4)], cache)
    with pytest.raises(Exception, match="attribute rope is missing"):
        case.open(rope=15)


def test_a_cache_that_is_not_bound_in_place_is_refused():
    case = Latent()
    binding, cache, other = case.open().io_binding(), case.cache(), case.cache()
    session = case.open()
    binding = session.io_binding()
    feeds = case.given(1) | {"past": cache, "segments": np.array([[0, 0, 1]])}
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("out", "cpu")
    binding.bind_output("present", "cpu", 0, np.uint8, other.shape, other.ctypes.data)
    with pytest.raises(Exception, match="input and output at once"):
        session.run_with_iobinding(binding)
