"""What onnxruntime's own operators for four-bit floats and for mixers with a state are on each board."""

import pytest

NAMES = ("MXFP4 experts", "NVFP4 experts", "LinearAttention", "CausalConvWithState")
RIGHT_BELOW = 1e-5  # of the largest value; sums of fp32 in another order
ABSENT, WRONG, RIGHT = "not there", "there and wrong", "there and right"  # from the least to the most
# As measured with onnxruntime 1.32.0, on every board. What gets better is only told.
EXPECTED = dict.fromkeys(NAMES, RIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_operators_are_at_least_what_they_were(board, runs, name, fact):
    found = runs["operators", board.name][name]
    if isinstance(found, str):
        kind, told = ABSENT, f"{ABSENT}: {found[:60]}"
    elif found <= RIGHT_BELOW:
        kind, told = RIGHT, f"{RIGHT}, {found:.0e}"
    else:
        kind, told = WRONG, f"{WRONG} by {found:.1e}"
    fact(name, told)
    order = (ABSENT, WRONG, RIGHT)
    assert order.index(kind) >= order.index(EXPECTED[name]), found
