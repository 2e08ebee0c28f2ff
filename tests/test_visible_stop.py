"""Stop strings over an answer's deltas."""

from hypothesis import given
from hypothesis import strategies as st

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning
from moedge.runtime.visible_stop import VisibleStop

DELTAS = st.one_of(
    st.text("abS", max_size=4).map(Content),
    st.text("abS", max_size=4).map(Reasoning),
    st.just(CallStart(0, "i", "aSb")),
    st.just(CallArguments(0, '{"aS": "b"}')),
)


def read(deltas, *stop):
    stops = VisibleStop(stop)
    passed = [delta for one in deltas for delta in stops.push([one])]
    return passed + stops.finish(), stops.found


def content(deltas):
    return "".join(delta.text for delta in deltas if isinstance(delta, Content))


def test_it_ends_before_the_string_wherever_it_is_cut():
    for parts in (["one STOP two"], ["one S", "TO", "P two"], list("one STOP two")):
        passed, found = read([*map(Content, parts), Reasoning("later"), CallStart(0, "i", "f")], "STOP", "two")
        assert found
        assert content(passed) == "one "
        assert passed == [delta for delta in passed if isinstance(delta, Content)]


def test_a_string_does_not_go_on_behind_a_call():
    deltas = [Content("ST"), CallStart(0, "i", "f"), Content("OP")]
    assert read(deltas, "STOP") == (deltas, False)


@given(st.lists(DELTAS, max_size=8))
def test_nothing_is_lost_or_moved_without_the_string(deltas):
    passed, found = read(deltas, "SaS")
    kept = [delta for delta in deltas if delta != Content("")]
    assert found or (
        content(passed) == content(kept)
        and [delta for delta in passed if not isinstance(delta, Content)]
        == [delta for delta in kept if not isinstance(delta, Content)]
    )
    if not found:  # what stands before each other delta stands there still
        for i, delta in enumerate(passed):
            if not isinstance(delta, Content):
                before = [d for d in passed[:i] if not isinstance(d, Content)]
                place = [j for j, d in enumerate(kept) if not isinstance(d, Content)][len(before)]
                assert content(passed[:i]) == content(kept[:place])
