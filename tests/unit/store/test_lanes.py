"""Several workers of one log: who goes on beside whom, who begins again, who stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from anchovies.core.errors import ConfigError, Fenced, StaleSession, StoreUnavailable
from anchovies.store.keys import Home
from anchovies.store.lease import Busy, Held, Lease
from anchovies.store.log import NOBODY, Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, Note
from anchovies.testing.faults import FaultyStore

New = Callable[..., Log]
Make = Callable[..., Change]
NOTE = Note("me", "why")


def pair(new_log: New, change: Make) -> tuple[Log, Log]:
    """Two workers of two, both with a commit."""
    a, b = new_log("a", lane=0, workers=2), new_log("b", lane=1, workers=2)
    a.append(change(key="a"))
    b.load()  # the first record of all is everybody's
    b.append(change(key="b"))
    return a, b


@pytest.mark.parametrize(("lane", "workers"), [(1, 1), (4, 4), (-1, 2), (0, 0), (-1, 1)])
def test_workers_that_cannot_be(new_log: New, lane: int, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"no worker {lane} of {workers}"):
        new_log(lane=lane, workers=workers)


def test_siblings_interleave(new_log: New, change: Make, home: Home) -> None:
    a, b = pair(new_log, change)
    for n in range(2, 5):
        first, second = a.append(change(n=n, key="a")), b.append(change(n=n, key="b"))
        assert (first.slot, second.slot) == (2 * n - 1, 2 * n)
    assert [(r.epoch, r.lane, r.workers) for r in (first, second)] == [(1, 0, 2), (2, 1, 2)]
    assert second.seq >= first.seq + first.rows
    state = new_log(lane=0, workers=2).state
    assert state == b.state and state.checkpoints["a"].value == state.checkpoints["b"].value == 4
    assert (state.floor, state.lanes) == (1, {"0": 1, "1": 2})
    assert b.data_key("t", "n", "parquet") == home.data("t", 1, 2, "n", "parquet")


def test_it_is_the_same_commit_in_another_slot(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    """Somebody takes the slot between our look and our try: cid and files stay."""
    a, b = pair(new_log, change)

    class Raced(FaultyStore):
        def create(self, key: str, data: bytes) -> None:
            if not tried:
                tried.append(data)
                b.append(change(key="b"))
            super().create(key, data)

    tried: list[bytes] = []
    a._store = a._history.store = Raced(store)
    record = a.append(change(5, key="a"))
    assert record.slot == 4 and record.cid.encode() in tried[0] and record.seq >= b.state.seq
    assert new_log(lane=0, workers=2).state == a.state


@pytest.mark.parametrize("read", [False, True])
def test_what_a_sibling_changed_is_not_built_on(new_log: New, change: Make, read: bool) -> None:
    a, b = pair(new_log, change)
    a.append(change(n=7, key="shared"))
    with pytest.raises(StaleSession, match="slot 3 .* changed a checkpoint"):
        b.append(change(key="b" if read else "shared"), frozenset({"shared"} if read else ()))
    assert b.load().checkpoints["shared"].value == 7
    assert b.append(change(key="b"), frozenset({"shared"})).slot == 4


def test_what_a_sibling_said_of_a_table_is_not_forgotten(new_log: New, change: Make) -> None:
    a, b = pair(new_log, change)
    a.append(replace(change(key="a"), tables={"t": {"columns": ["x"]}, "u": {}}))
    assert b.append(replace(change(key="b"), tables={"t": {"columns": ["x"]}, "v": {}})).slot == 4, "both say the same"
    a.append(replace(change(key="a"), tables={"t": {"columns": ["x", "y"]}}))
    with pytest.raises(StaleSession):
        b.append(replace(change(key="b"), tables={"t": {"columns": ["x", "z"]}}))


def test_a_session_of_the_same_lane_fences(new_log: New, change: Make) -> None:
    a, b = pair(new_log, change)
    waiting = new_log("c", lane=1, workers=2)
    new_log("d", lane=1, workers=2).append(change(key="b"))
    with pytest.raises(Fenced, match="d on host"):
        b.append(change(key="b"))
    with pytest.raises(StaleSession):
        waiting.append(change(key="b"))
    assert a.append(change(key="a")).slot == 4


def test_a_reset_fences_every_lane(new_log: New, change: Make) -> None:
    lane, workers = NOBODY
    logs = pair(new_log, change)
    new_log("person", lane=lane, workers=workers).reset(Change(note=NOTE))
    for log in logs:
        with pytest.raises(Fenced, match="was reset"):
            log.append(change())


def test_a_datastore_that_does_not_answer_while_siblings_are_read(new_log: New, change: Make, store: MemoryStore) -> None:
    a, _ = pair(new_log, change)
    a._store = a._history.store = faulty = FaultyStore(store)
    faulty.down = True
    with pytest.raises(StoreUnavailable):
        a.append(change(key="a"))
    faulty.down = False
    assert a.append(change(key="a")).slot == 3, "nothing was tried, so nothing is unknown"


def test_what_is_built_on_is_durable_first(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    """A sibling's record can be seen before it is durable; ours must not survive a power cut that takes it away."""
    a, b = pair(new_log, change)
    b.append(change(key="b"))
    b.append(change(key="b"))
    a._store = a._history.store = watched = FaultyStore(store)
    a.append(change(key="a"))
    ours = watched.ops.index(("create", home.slot(5)))
    assert ("settle", home.slot(4)) in watched.ops[:ours]


# --- another number of them ---


def test_another_number_shares_the_log_out_anew(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    a, b = pair(new_log, change)
    idle = new_log("idle", lane=1, workers=2)
    new = new_log("new", lane=2, workers=3)
    new.begin()
    assert new.committed and (new.state.workers, new.state.floor, new.epoch, new.state.epoch(1)) == (3, 4, 4, 4)
    assert new.data_key("t", "n", "json") == home.data("t", 2, 4, "n", "json")
    record = new.append(change(key="c"))
    assert (record.slot, record.kind, record.epoch) == (4, "commit", 4)
    for old in (a, b):
        with pytest.raises(Fenced, match="shared by 3 workers now; this session is one of 2"):
            old.append(change())
        with pytest.raises(Fenced):
            old.load()
    with pytest.raises(Fenced, match="shared by 3 workers") as e:
        idle.load()
    assert "--workers 3" in str(e.value.hint)
    with pytest.raises(Fenced):
        idle.append(change())
    third = new_log("third", lane=0, workers=3)
    third.begin()
    assert third.append(change(key="a")).epoch == 5 and third.state.slot == 5, "it was shared out already"


def test_nothing_is_written_where_nothing_changes(new_log: New, change: Make, store: MemoryStore) -> None:
    log = new_log(lane=1, workers=2)
    log.begin()
    assert not log.committed and not list(store.list(""))
    log.append(change())
    other = new_log(lane=0, workers=2)
    other.begin()
    assert other.state.slot == 1 and not other.committed


def test_a_batch_that_began_before_is_thrown_away(new_log: New, change: Make) -> None:
    new_log().append(change())
    log = new_log(lane=0, workers=2)
    for _ in range(2):
        with pytest.raises(StaleSession, match="shared out anew"):
            log.append(change(n=2))
    log.load()
    assert log.append(change(n=2)).slot == 3 and log.state.workers == 2


def test_of_two_that_share_out_alike_one_does(new_log: New, change: Make) -> None:
    new_log().append(change())
    first, second = (new_log(n, lane=i, workers=2) for i, n in enumerate("ab"))
    first.begin()
    second.begin()
    assert (first.state.slot, second.state.slot, second.committed) == (2, 2, False)
    assert second.append(change(key="b")).epoch == second.state.floor + 1
    assert first.append(change(key="a")).epoch == first.state.floor


def test_of_two_that_share_out_unlike_the_later_wins(new_log: New, change: Make, store: MemoryStore) -> None:
    new_log().append(change())
    first, second = new_log("a", lane=0, workers=2), new_log("b", lane=0, workers=1)
    first.begin()
    alone = new_log("c")
    alone.begin()
    assert (alone.state.workers, alone.epoch) == (1, 5)
    with pytest.raises(Fenced, match="shared by 1 worker now"):
        first.append(change())
    with pytest.raises(Fenced, match="shared by 2 workers"):
        second.append(change())


def test_the_first_record_of_all_is_lazy(new_log: New, change: Make) -> None:
    """Rivals of the same number begin again, others are over."""
    first, second, other = (new_log(n, lane=lane, workers=w) for n, lane, w in (("a", 0, 2), ("b", 1, 2), ("c", 0, 3)))
    first.append(change(key="a"))
    with pytest.raises(StaleSession):
        second.append(change(key="b"))
    with pytest.raises(Fenced, match="shared by 2 workers"):
        other.append(change(key="c"))
    second.load()
    assert second.append(change(key="b")).epoch == 2


def test_who_only_edits_is_of_no_lane(new_log: New, change: Make) -> None:
    lane, workers = NOBODY
    person = new_log("person", lane=lane, workers=workers)
    person.begin()
    pair(new_log, change)
    assert person.load().workers == 2
    new_log(lane=0, workers=3).begin()
    assert person.load().workers == 3, "no number of workers is theirs"
    person.begin()
    assert person.edit(Change(note=NOTE)).slot == 4 and person.state.workers == 3
    with pytest.raises(AssertionError):
        person.append(change())


# --- what is due at the source ---


def test_each_lane_owes_its_own_acknowledgements(new_log: New, change: Make) -> None:
    a, b = pair(new_log, change)
    a.append(replace(change(key="a"), ack_pending=["a1"]))
    b.append(replace(change(key="b"), ack_pending=["b1", "b2"]))
    a.append(change(key="a"))
    assert (a.ack_pending, b.ack_pending, a.state.ack_pending) == ([], ["b1", "b2"], [])
    assert new_log(lane=1, workers=2).ack_pending == ["b1", "b2"], "not lost with its worker"
    b.append(change(key="b"))
    assert b.ack_pending == [] and not b.state.acks


def test_lane_0_inherits_what_is_owed_when_the_log_is_shared_out_anew(new_log: New, change: Make) -> None:
    a, b = pair(new_log, change)
    a.append(replace(change(key="a"), ack_pending=["a1"]))
    b.append(replace(change(key="b"), ack_pending=["b1"]))
    new = new_log()
    new.begin()
    assert new.ack_pending == ["a1", "b1"] and not new.state.acks
    assert new_log().state == new.state
    new.finish()
    assert new_log().state == new.state, "a snapshot says the same"


# --- politeness ---


def test_each_lane_has_its_lease(store: MemoryStore, home: Home, new_log: New) -> None:
    log = new_log()
    leases = [Lease(store, home, log._clock, log._ids, log.writer, lane=lane) for lane in (0, 1, 1)]
    assert [type(x.acquire("skip")) for x in leases] == [Held, Held, Busy]
    assert {home.lease, home.lease_of(1)} <= {e.key for e in store.list("")}
    assert home.lease.endswith("/$log/lease.json") and home.lock.endswith("/$log/lock"), "one worker's is where it always was"
