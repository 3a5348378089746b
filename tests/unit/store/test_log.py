"""The commit: who gets a slot, who must stop, and what is said when nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from anchovies.core.errors import (
    AnchovyError,
    AnchovyExecutionTimeout,
    CommitUnknown,
    ConfigError,
    FatalError,
    Fenced,
    NotFound,
    StaleSession,
    Stopped,
    StoreUnavailable,
)
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.log import SNAPSHOT_EVERY, Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, LedgerChange, Loaded, Note
from anchovies.testing.faults import FaultyStore

New = Callable[..., Log]
Make = Callable[..., Change]


def keys(store: MemoryStore) -> list[str]:
    return [e.key for e in store.list("")]


def edit_of(key: str) -> Change:
    return Change(checkpoints=Checkpoints(set={key: CheckpointValue(0)}), note=Note(who="me", why="again"))


def test_a_run_that_finds_nothing_writes_nothing(new_log: New, store: MemoryStore) -> None:
    log = new_log()
    assert log.finish()
    assert keys(store) == []


def test_the_first_commit_is_the_open(new_log: New, store: MemoryStore, change: Make, home: Home) -> None:
    log = new_log()
    assert log.data_key("t", "n1", "parquet") == home.data("t", 0, 1, "n1", "parquet")
    assert log.new_rejects_key("t").startswith(home.rejects("t", 0, 1, "x").rpartition("/")[0])
    first, second = log.append(change()), log.append(change())
    assert [(r.slot, r.kind, r.epoch, r.lane, r.workers) for r in (first, second)] == [
        (1, "open", 1, 0, 1),
        (2, "commit", 1, 0, 1),
    ]
    assert (first.prev, second.prev) == ("", first.cid)
    assert keys(store) == sorted([home.format, home.slot(1), home.slot(2)])


def test_a_new_session_has_a_new_epoch(new_log: New, change: Make) -> None:
    new_log().append(change())
    log = new_log()
    assert log.epoch == 2
    assert log.append(change()).epoch == 2


def test_a_loaded_state_is_what_was_committed(new_log: New, change: Make) -> None:
    log = new_log()
    done = Loaded(source="a/b", store="x", tbl="t", target="db.t", start=0, end=3, cid="c", counts={"inserted": 1})
    log.append(
        replace(change(5, {"page": 1}), loaded=[done], tables={"t": {"unique_by": ["a"]}}, complete=["t"], ack_pending=["m"])
    )
    log.append(Change(ledgers={"files": LedgerChange(put={"a": 1, "b": 2})}))
    log.append(Change(ledgers={"files": LedgerChange(delete=["a", "never"])}, loaded=[replace(done, end=4)]))
    state = new_log().state
    assert state == log.state
    assert state.checkpoints == {"n": CheckpointValue({"page": 1}, ["t"])}
    assert state.ledgers == {"files": {"b": 2}}
    assert state.tables == {"t": {"unique_by": ["a"]}}
    assert (state.totals["t"].rows, state.totals["t"].files, state.totals["t"].slot, state.totals["t"].complete) == (5, 1, 1, 1)
    assert state.loaded["a/b", "t", "db.t"].end == 4
    assert state.ack_pending == [], "the next commit clears the outbox"
    log.edit(Change(checkpoints=Checkpoints(delete=["n"]), ledgers={"files": LedgerChange(delete=["b"])}))
    assert (log.state.checkpoints, log.state.ledgers) == ({}, {})


def test_seq_rises_whatever_the_clock_does(new_log: New, change: Make, clock: Any) -> None:
    log = new_log()
    start = clock.us
    seqs = []
    for jump in (0, -(10**15), 0, 10**9, -5):
        clock.us = start + jump
        seqs.append(log.append(change(7)).seq)
    assert seqs == [start, start + 7, start + 14, start + 10**9, start + 10**9 + 7]
    assert new_log().state.seq == seqs[-1] + 7


# --- rivals ---


def test_the_slower_of_two_first_commits_begins_again(new_log: New, change: Make, store: MemoryStore) -> None:
    a, b = new_log("a"), new_log("b")
    a.append(change(n=1))
    with pytest.raises(StaleSession):
        b.append(change(n=2))
    with pytest.raises(StaleSession):
        b.append(change(n=2))  # not without a fresh load
    assert len(keys(store)) == 2
    assert b.load().checkpoints["n"].value == 1
    assert b.append(change(n=2)).epoch == 2


def test_a_session_that_was_overtaken_is_fenced_for_good(new_log: New, change: Make, store: MemoryStore) -> None:
    a = new_log("a")
    a.append(change())
    new_log("b").append(change())
    before = keys(store)
    for attempt in (lambda: a.append(change()), lambda: a.edit(edit_of("n")), a.load):
        with pytest.raises(Fenced, match="session of prod/sales has committed \\(b on host"):
            attempt()
    assert a.finish() and keys(store) == before


def test_an_edit_fences_nobody(new_log: New, change: Make) -> None:
    log = new_log("a")
    log.append(change())
    editor = new_log("editor")
    for i in range(3):
        record = editor.edit(edit_of(f"other{i}"))
        assert (record.kind, record.lane, record.epoch, record.workers) == ("edit", -1, 0, 0)
    assert log.append(change()).slot == 5
    assert editor.edit(edit_of("late")).slot == 6, "an edit is tried again in the next slot"


@pytest.mark.parametrize("opened", [False, True])
def test_an_edit_of_what_a_batch_depends_on_throws_the_batch_away(new_log: New, change: Make, opened: bool) -> None:
    for edit, read in (
        (edit_of("n"), frozenset()),  # set by the batch
        (edit_of("read"), frozenset({"read"})),
        (Change(checkpoints=Checkpoints(delete=["read"])), frozenset({"read"})),
        (Change(ledgers={"t": LedgerChange(delete=["x"])}), frozenset({"ledger:t"})),
    ):
        log = new_log("a")
        if opened:
            log.append(change())
        new_log("editor").edit(edit)
        with pytest.raises(StaleSession):
            log.append(change(), read)
        log.load()
        log.append(change(), read)


def test_an_edit_may_be_the_first_record(new_log: New, change: Make) -> None:
    log = new_log("a")
    new_log().edit(edit_of("x"))
    assert log.append(change()).slot == 2
    assert new_log().state.epoch(0) == 1


# --- failures ---


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("times", [1, 3, 100])
def test_every_request_may_fail(new_log: New, change: Make, home: Home, when: Any, times: int) -> None:
    """Success is said only when the record is there; when it is not said, the log is whole and the next session goes on."""
    nth = 0
    while True:
        nth += 1
        inner = MemoryStore()
        new_log("first", on=inner).append(change(n=0))
        faulty = FaultyStore(inner, nth, when, times)
        log, acked = new_log("a", on=faulty, load=False), []
        try:
            log.load()
            acked.append(log.append(change(n=1)))
            acked.append(log.append(change(n=2)))
            log.finish()
        except (CommitUnknown, StoreUnavailable):
            assert times > 1, "one failure is nothing"
            if isinstance(log._dead, CommitUnknown):
                with pytest.raises(CommitUnknown):
                    log.append(change())
        after = new_log("b", on=inner)
        real = {r.slot: r.cid for r in Reader(inner, home).records(0, "")}
        assert all(real[r.slot] == r.cid for r in acked)
        assert after.state.checkpoints["n"].value in (len(acked), len(acked) + 1)
        after.append(change(n=9))
        if not faulty.hit:
            break
    assert nth > 10


def test_unknown_is_said_and_nothing_is_deleted(new_log: New, change: Make, store: MemoryStore) -> None:
    faulty = FaultyStore(store)
    log = new_log("a", on=faulty)
    log.append(change())
    before = keys(store)
    faulty.down = True
    with pytest.raises(CommitUnknown) as e:
        log.append(change())
    assert "slot 2" in str(e.value) and e.value.hint
    faulty.down = False
    assert keys(store) == before
    with pytest.raises(CommitUnknown):
        log.append(change())
    log.load()
    assert log.append(change()).slot == 2


def test_unknown_after_attempts_that_left_nothing(new_log: New, change: Make, home: Home) -> None:
    class Deaf(FaultyStore):
        def create(self, key: str, data: bytes) -> None:
            raise StoreUnavailable("no")

    inner = MemoryStore()
    new_log(on=inner).append(change())
    with pytest.raises(CommitUnknown):
        new_log(on=Deaf(inner)).append(change())
    with pytest.raises(StoreUnavailable):
        new_log(on=Deaf(MemoryStore())).append(change())  # not even the format marker


def test_an_own_record_that_landed_unheard_is_recognised_and_settled(new_log: New, change: Make, home: Home) -> None:
    inner = MemoryStore()
    faulty = FaultyStore(inner)
    log = new_log(on=faulty)
    log.append(change())
    faulty.nth, faulty.when = len(faulty.ops) + 1, "after"
    record = log.append(change())
    assert record.slot == 2 and faulty.ops[-1] == ("settle", home.slot(2))
    assert log.append(change()).slot == 3


@pytest.mark.parametrize("tried", [0, 1])
def test_a_full_disk_is_no_commit_unless_something_was_tried_before(new_log: New, change: Make, tried: int) -> None:
    class Full(FaultyStore):
        def create(self, key: str, data: bytes) -> None:
            self.left = getattr(self, "left", tried) - 1
            raise StoreUnavailable("no answer") if self.left >= 0 else FatalError("disk full", hint="free space")

    inner = MemoryStore()
    new_log(on=inner).append(change())
    log = new_log(on=Full(inner))
    with pytest.raises(CommitUnknown if tried else FatalError):
        log.append(change())


def test_what_we_build_on_is_settled_first(new_log: New, change: Make, home: Home) -> None:
    inner = MemoryStore()
    new_log(on=inner).append(change())
    faulty = FaultyStore(inner)
    log = new_log(on=faulty)
    log.append(change())
    log.append(change())
    assert [op for op in faulty.ops if op[0] != "get"][-3:] == [
        ("settle", home.slot(1)), ("create", home.slot(2)), ("create", home.slot(3)),
    ]  # fmt: skip


@pytest.mark.parametrize("landed", [False, True])
def test_an_append_that_is_broken_off_from_outside_is_unknown(new_log: New, change: Make, landed: bool) -> None:
    """The engine throws Stopped into a thread that does not listen: it may come anywhere."""

    class Thrown(FaultyStore):
        def create(self, key: str, data: bytes) -> None:
            if landed:
                super().create(key, data)
            raise Stopped("SIGTERM")

    inner = MemoryStore()
    new_log(on=inner).append(change())
    log = new_log(on=Thrown(inner))
    with pytest.raises(Stopped):
        log.append(change())
    with pytest.raises(CommitUnknown):
        log.append(change())
    assert log.load().slot == (2 if landed else 1)


# --- permission ---


def test_a_revoked_session_never_commits_again(new_log: New, change: Make, store: MemoryStore) -> None:
    log = new_log()
    log.append(change())
    before = keys(store)
    log.revoke(AnchovyExecutionTimeout("too late"))
    for attempt in (lambda: log.append(change()), lambda: log.edit(edit_of("x"))):
        with pytest.raises(AnchovyExecutionTimeout):
            attempt()
    other = new_log()
    other.revoke()
    with pytest.raises(Stopped):
        other.append(change())
    assert keys(store) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_revoked_between_two_tries(new_log: New, change: Make, when: Any) -> None:
    inner = MemoryStore()
    new_log(on=inner).append(change())

    class Late(FaultyStore):
        def create(self, key: str, data: bytes) -> None:
            log.revoke(AnchovyExecutionTimeout("too late"))
            super().create(key, data)

    log = new_log(on=Late(inner, nth=6, when=when))
    if when == "after":
        assert log.append(change()).slot == 2, "it landed before the permission went: the truth is told"
    else:
        with pytest.raises(CommitUnknown):
            log.append(change())


# --- sizes, versions, workers ---


def test_a_long_change_lies_beside_the_record(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    files = [DataFile(table="t", path=f"data/{i}", size=1, rows=2, sha256="0" * 64, schema=[], cuts=[0]) for i in range(9000)]
    log = new_log()
    record = log.append(replace(change(), files=files, note=Note(who="a", why="b")))
    assert record.manifest is not None and len(store.get(home.slot(1))) < 2000
    read = Reader(store, home).next(0, "")
    assert read == record and Reader(store, home).files_of(read) == files
    assert new_log().state == log.state and log.state.totals["t"].rows == 18_000
    data = store.get(record.manifest.path)
    for broken in (data[:-1], data[:50] + bytes([data[50] ^ 1]) + data[51:], None):
        store.delete(record.manifest.path) if broken is None else store.put(record.manifest.path, broken)
        with pytest.raises(AnchovyError, match=record.cid):
            new_log()


def test_a_newer_format_is_refused(new_log: New, store: MemoryStore, home: Home) -> None:
    store.put(home.format, b'{"format": 7, "anything": []}')
    with pytest.raises(ConfigError, match="format 7"):
        new_log()


def test_two_that_create_the_log_at_once_agree(new_log: New, change: Make, store: MemoryStore) -> None:
    a, b = new_log("a"), new_log("b")
    a.append(change())
    with pytest.raises(StaleSession):
        b.append(change())
    b.load()
    assert b.append(change()).store == a.state.store


# --- snapshots ---


def test_a_session_leaves_a_snapshot_and_the_last_three_stay(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    for _ in range(5):
        log = new_log()
        log.append(change())
        log.append(change())
        assert log.finish()
    assert [e.key for e in store.list(home.snapshots)] == [home.snapshot(n) for n in (10, 8, 6)]
    assert store.get(home.head).rstrip() == b'{"slot":10}'
    faulty = FaultyStore(store)
    assert new_log(on=faulty).state == log.state
    assert [verb for verb, _ in faulty.ops] == ["get", "list", "get", "get"]
    assert faulty.ops[-1] == ("get", home.slot(11))


def test_snapshots_come_along_the_way(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    log = new_log()
    for _ in range(SNAPSHOT_EVERY + 1):
        log.append(change())
    assert [e.key for e in store.list(home.snapshots)] == [home.snapshot(SNAPSHOT_EVERY)]


def test_a_snapshot_is_deterministic_and_equals_the_fold(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    log = new_log()
    log.append(change())
    log.finish()
    first = store.get(home.snapshot(1))
    store.delete(home.snapshot(1))
    again = new_log()
    assert again.state == log.state
    again.committed = True
    assert again.finish()
    assert store.get(home.snapshot(1)) == first


def test_a_snapshot_that_cannot_be_written_is_no_failure(new_log: New, change: Make, store: MemoryStore) -> None:
    faulty = FaultyStore(store)
    log = new_log(on=faulty)
    log.append(change())
    faulty.down = True
    assert not log.finish()


def test_a_snapshot_that_was_collected_meanwhile(new_log: New, change: Make, store: MemoryStore, home: Home) -> None:
    log = new_log()
    log.append(change())
    log.finish()

    class Racing(FaultyStore):
        def get(self, key: str) -> bytes:
            if key.startswith(home.snapshots):
                raise NotFound(key)
            return super().get(key)

    store.put(home.snapshots + "stray.txt", b"not ours")
    assert new_log(on=Racing(store)).state == log.state
