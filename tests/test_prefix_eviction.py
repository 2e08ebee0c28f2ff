"""Which rows a windowed buffer says that it holds, against a plain set of them: runs, rollbacks, copies and blocks."""

from hypothesis import given
from hypothesis import strategies as st

from moedge.runtime.cache.cache_blocks import BlockGroup, BlockLayout
from moedge.runtime.cache.eviction import Eviction

WINDOWS = st.sampled_from([1, 3, 32, 100, 200, 600])
WAYS = st.lists(
    st.tuples(st.sampled_from(["run", "run", "back", "copy", "begin"]), st.integers(1, 900), st.integers(0, 1000)),
    min_size=1,
    max_size=8,
)


class RowSet:
    """An eviction, and the rows that are really there."""

    def __init__(self, window: int) -> None:
        self.eviction = Eviction(window)
        self.rows: set[int] = set()
        self.length = 0

    def run(self, count: int) -> None:
        self.rows |= set(range(self.length, self.length + count))
        self.trim(self.length + count)

    def trim(self, length: int) -> None:
        self.length = length
        for first, last in self.eviction.trim(length):
            self.rows -= set(range(first, last))

    def copy(self, length: int) -> "RowSet":
        other = RowSet(self.eviction.window)
        for first, last in other.eviction.follow(self.eviction, length):
            other.rows |= self.rows & set(range(first, last))
        other.length = length
        return other

    def begin(self, first: int) -> "RowSet":
        """One that was filled with rows from `first` on."""
        other = RowSet(self.eviction.window)
        other.rows = set(range(first, self.length))
        other.eviction.begin(first, self.length)
        other.trim(self.length)
        return other

    def check(self) -> None:
        window = self.eviction.window
        for length in range(0, self.length + 1, 7):
            back = self.eviction.reachable(length)
            assert back <= length
            assert self.rows >= set(range(max(0, back - window), back)), (back, length)
        assert self.eviction.reachable(self.length) == self.length
        for last in range(32, self.length + 1, 32):
            first = last - min(window, 32)
            if self.eviction.holds(first, last):
                assert self.rows >= set(range(first, last)), (first, last)


@given(window=WINDOWS, ways=WAYS)
def test_what_is_said_to_be_held_is(window: int, ways: list[tuple[str, int, int]]) -> None:
    rows = RowSet(window)
    rows.run(40)
    for what, count, share in ways:
        at = rows.eviction.reachable(rows.length * share // 1000)
        if what == "run":
            rows.run(count)
        elif what == "back":
            rows.trim(at)
        elif what == "copy":
            rows = rows.copy(at)
        elif rows.length > window:
            rows = rows.begin((rows.length - window) * share // 1000)
        rows.check()


def test_a_long_history_is_held_and_old_rows_are_not() -> None:
    rows = RowSet(100)
    rows.run(3000)
    rows.check()
    assert rows.eviction.holds(2400, 3000)
    assert not rows.eviction.holds(500, 532)
    assert rows.eviction.holds(400 - 32, 400)  # before a step


@given(
    st.lists(st.integers(0, 7), max_size=12),
    st.integers(1, 3).flatmap(lambda reach: st.tuples(st.just(reach), st.integers(1, 3))),
)
def test_lengths_to_go_on_from_are_those_whose_reach_is_held(helds: list[int], reaches: tuple[int, int]) -> None:
    first, second = reaches
    groups = BlockGroup(0, 32, 0, 1), BlockGroup(32 * first, 32, first, 1), BlockGroup(0, 0, second, 1)
    found = BlockLayout(32, groups).resumable(helds)

    def holds(count: int, bit: int, reach: int) -> bool:
        return all(held >> bit & 1 for held in helds[max(0, count - reach) : count])

    fit = [n for n in range(len(helds) + 1) if holds(n, 0, n) and holds(n, 1, first) and holds(n, 2, second)]
    assert found == max(fit)
