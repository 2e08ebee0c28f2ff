"""With what requests begin: sessions, blocks in memory and on disk; over an engine that is a script, whose cache holds
its tokens, so that what was copied wrongly is answered wrongly.
"""

import time
from functools import partial

import pytest
from fake_engine import FakeEngine
from prefixes import CHATS, ONE, SYSTEM, ask, echo, read, right
from scheduling import failure_of, text_of, wait_for

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache.reservation import NoRoom
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Session


@pytest.fixture
def engine():
    return FakeEngine(echo, chunk=64, slots=4)


def test_a_chat_that_begins_as_another_one_leaves_it_as_it_is(engine, start):
    scheduler = start(engine, max_running=3, prefix_budget_bytes=0)
    assert ask(scheduler, CHATS[0]) == 0
    assert ask(scheduler, CHATS[1]) == len(SYSTEM)
    assert len(engine.sessions) == 2
    for chat in CHATS[:2]:  # both can go on
        assert ask(scheduler, [*chat, 9]) == len(chat)
    assert ask(scheduler, CHATS[2]) == len(SYSTEM)
    assert ask(scheduler, CHATS[3]) == len(SYSTEM)  # in the place of the one that was silent longest
    assert [ask(scheduler, [*chat, 9, 8]) for chat in CHATS[1:3]] == [len(CHATS[1]) + 1, len(CHATS[2])]
    assert len(engine.sessions) == 3


def test_chats_that_lost_their_session_are_found_in_memory(engine, start):
    scheduler = start(engine, max_running=1)
    for chat in CHATS:
        ask(scheduler, chat)
    wholes = [len(chat) // 32 * 32 for chat in CHATS[:-1]]
    assert [ask(scheduler, [*chat, 9]) for chat in CHATS[:-1]] == wholes
    counts = scheduler.prefix_counts
    assert counts.memory_blocks == 9 + 2 * len(CHATS)  # of the beginning that all share there is one of each
    assert counts.memory_bytes == 32 * 4 * counts.memory_blocks
    assert (counts.hits, counts.misses) == (2 * len(CHATS) - 2, 1)
    assert counts.memory_tokens >= sum(wholes)


def test_the_same_prompt_is_not_read_at_all(engine, start):
    scheduler = start(engine)
    ask(scheduler, CHATS[0])
    before = read(engine)
    assert ask(scheduler, CHATS[0]) == len(CHATS[0])
    assert ask(scheduler, CHATS[0], params=SamplingParams(max_tokens=3)) == len(CHATS[0])
    assert read(engine) == before + 2  # the answer's own tokens


def test_blocks_outlive_the_process(engine, start, tmp_path):
    scheduler = start(engine, max_running=1, cache_dir=tmp_path)
    assert ask(scheduler, CHATS[0]) == 0
    scheduler.close()
    again = FakeEngine(echo, chunk=64, slots=4)
    restarted = start(again, max_running=1, cache_dir=tmp_path)
    assert restarted.prefix_counts.disk_blocks == len(CHATS[0]) // 32
    assert ask(restarted, CHATS[1]) == len(SYSTEM) // 32 * 32
    assert restarted.prefix_counts.disk_tokens == len(SYSTEM) // 32 * 32
    short = FakeEngine(echo, chunk=64, slots=4)
    restarted.close()
    third = start(short, max_running=1, cache_dir=tmp_path)
    assert ask(third, [*SYSTEM[:100], 5, 6]) == 0  # too few to look at the disk for
    assert ask(third, [*SYSTEM, 5, 6]) == len(SYSTEM) // 32 * 32


def test_another_model_finds_none_of_them(engine, start, tmp_path):
    scheduler = start(engine, max_running=1, cache_dir=tmp_path)
    ask(scheduler, CHATS[0])
    scheduler.close()
    other = start(FakeEngine(echo, chunk=64, context_length=2048), max_running=1, cache_dir=tmp_path)
    assert ask(other, CHATS[0]) == 0


def test_a_block_is_not_found_behind_other_tokens(engine, start):
    scheduler = start(engine, max_running=1)
    first, second = list(range(3000, 3032)), list(range(3500, 3532))
    ask(scheduler, [*first, *SYSTEM])
    ask(scheduler, [*second, *range(4000, 4300)])
    ask(scheduler, list(range(5000, 5100)))
    assert ask(scheduler, [*first, *range(4000, 4300)]) == 32


def test_of_what_was_not_used_lately_the_ends_go_first(engine, start):
    scheduler = start(engine, max_running=1, prefix_budget_bytes=20 * 128)
    for chat in (CHATS[0], list(range(5000, 5352))):  # eleven blocks each
        ask(scheduler, chat)
    assert ask(scheduler, CHATS[0]) == 9 * 32


def test_nothing_is_kept_of_what_a_damaged_bundle_may_have_computed(engine, start, monkeypatch):
    scheduler = start(engine, max_running=1)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "proved", property(lambda session: False))
        ask(scheduler, CHATS[0])
        ask(scheduler, list(range(5000, 5100)))
    assert scheduler.prefix_counts.memory_blocks == 0


def test_a_disk_that_is_slower_than_reading_is_not_read(engine, start, tmp_path, monkeypatch):
    scheduler = start(engine, max_running=1, cache_dir=tmp_path)
    ask(scheduler, CHATS[0])
    scheduler.close()
    scheduler = start(FakeEngine(echo, chunk=64, slots=4), max_running=1, cache_dir=tmp_path)
    ask(scheduler, list(range(3000, 3100)))  # so that it is known how long reading takes
    prefixes = scheduler._timelines._prefixes
    monkeypatch.setattr(prefixes, "_disk_rate", 1.0)
    assert ask(scheduler, CHATS[1]) == 0
    monkeypatch.setattr(prefixes, "_disk_rate", 1e12)
    assert ask(scheduler, [*CHATS[0], 5]) >= len(SYSTEM) // 32 * 32


def test_a_broken_file_costs_reading_and_nothing_else(engine, start, tmp_path):
    scheduler = start(engine, max_running=1, cache_dir=tmp_path)
    ask(scheduler, CHATS[0])
    scheduler.close()
    names = scheduler._timelines._prefixes.names("", CHATS[0])
    path = next((tmp_path / "prefixes").glob(f"{names[5].hex()}*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    restarted = start(FakeEngine(echo, chunk=64, slots=4), max_running=1, cache_dir=tmp_path)
    assert ask(restarted, CHATS[0]) == 5 * 32
    assert restarted.prefix_counts.disk_rejected == 1


def test_nobody_is_given_what_was_read_for_another_owner(engine, start, tmp_path):
    scheduler = start(engine, max_running=2, cache_dir=tmp_path)
    assert ask(scheduler, CHATS[0], "one") == 0
    assert ask(scheduler, CHATS[0], "two") == 0
    assert ask(scheduler, CHATS[1], "three") == 0
    assert ask(scheduler, CHATS[1], "") == 0
    assert ask(scheduler, [*CHATS[0], 9], "two") == len(CHATS[0]) // 32 * 32  # its own
    before = read(engine)
    assert ask(scheduler, CHATS[0], "four") == 0
    assert read(engine) == before + len(CHATS[0])  # nor is any of it found faster
    scheduler.close()
    restarted = start(FakeEngine(echo, chunk=64, slots=4), max_running=2, cache_dir=tmp_path)
    assert ask(restarted, CHATS[0], "five") == 0
    assert ask(restarted, CHATS[0], "one") == len(CHATS[0]) // 32 * 32


def test_a_session_of_another_owner_is_emptied_before_it_is_used(engine, start):
    scheduler = start(engine, max_running=1, prefix_budget_bytes=0)
    ask(scheduler, CHATS[0], "one")
    assert ask(scheduler, [*CHATS[0], 7], "two") == 0
    assert len(engine.sessions) == 1


def test_where_there_is_no_memory_an_idle_session_makes_room(engine, start, monkeypatch):
    scheduler = start(engine, max_running=3)
    ask(scheduler, CHATS[0])

    def none():
        raise NoRoom("the cache cannot reserve address space.")

    monkeypatch.setattr(engine, "session", none)
    assert ask(scheduler, list(range(5000, 5100))) == 0
    assert ask(scheduler, CHATS[1]) == len(SYSTEM) // 32 * 32  # of blocks
    held = scheduler.submit(CHATS[2], SamplingParams(max_tokens=400))
    wait_for(lambda: held.phase == "decode")
    assert isinstance(failure_of(scheduler.submit(CHATS[3], ONE)), NoRoom)  # nobody is idle
    held.cancel()


def test_what_is_kept_stays_within_its_budget(engine, start):
    block = 32 * 4
    scheduler = start(engine, max_running=1, prefix_budget_bytes=20 * block)
    for chat in CHATS:
        ask(scheduler, chat)
        assert scheduler.prefix_counts.memory_bytes <= 20 * block
    assert scheduler.prefix_counts.memory_evictions > 0
    assert ask(scheduler, CHATS[0]) >= len(SYSTEM) // 32 * 32  # what was used by all is the last to go
    ask(scheduler, list(range(1500, 1500 + 100 * 32)))  # 100 blocks
    assert scheduler.prefix_counts.memory_bytes <= 20 * block


def test_a_budget_of_nothing_keeps_nothing(engine, start, tmp_path):
    scheduler = start(engine, max_running=1, prefix_budget_bytes=0)
    ask(scheduler, CHATS[0])
    ask(scheduler, CHATS[1])
    counts = scheduler.prefix_counts
    assert (counts.memory_budget_bytes, counts.memory_bytes, counts.memory_blocks) == (0, 0, 0)
    with pytest.raises(MoedgeError, match="give them more, or no folder"):
        start(FakeEngine(echo), prefix_budget_bytes=0, cache_dir=tmp_path)


def test_who_waits_for_the_disk_keeps_nobody_waiting(engine, start, tmp_path, monkeypatch):
    scheduler = start(engine, max_running=1, cache_dir=tmp_path)
    ask(scheduler, CHATS[0])
    scheduler.close()
    engine = FakeEngine(echo, chunk=64, slots=4)
    scheduler = start(engine, max_running=2, cache_dir=tmp_path)
    prefixes = scheduler._timelines._prefixes
    get = prefixes.get
    monkeypatch.setattr(prefixes, "get", lambda *name: (time.sleep(0.03), get(*name))[1])
    talks = scheduler.submit([1], SamplingParams(max_tokens=400))
    wait_for(lambda: talks.phase == "decode")
    before = len(engine.runs)
    loads = scheduler.submit(CHATS[1], ONE)
    assert text_of(loads) == right(CHATS[1])
    assert len(engine.runs) - before >= 9  # of the other one's: a step for each block at least
    assert loads.cached_tokens == len(SYSTEM) // 32 * 32
    loads = scheduler.submit([*CHATS[0], 4], ONE)
    wait_for(lambda: any(running.loads for running in scheduler._running) or loads.finished)
    loads.cancel()
    talks.cancel()
    wait_for(partial(getattr, scheduler, "idle"))
    assert ask(scheduler, [*CHATS[0], 4]) > 0
