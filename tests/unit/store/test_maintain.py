"""Retirement, resets, cursors and garbage: what may go goes, and nothing else ever does."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from anchovies.core.errors import CommitUnknown, Fenced, StaleSession, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store import cursors, garbage, keys, ledgers
from anchovies.store import record as record_module
from anchovies.store.cursors import Cursor, Seen
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.maintain import Maintainer, Report
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, DataFile, LedgerChange, Note, Writer

New = Callable[..., Log]
DAY = 86_400.0
NOTE = Note(who="me", why="test")


def file_of(log: Log, store: MemoryStore, tbl: str = "t", ext: str = "parquet") -> DataFile:
    """A data file of this session that lies in the store."""
    key = log.new_data_key(tbl, ext)
    store.put(key, b"rows")
    return DataFile(table=tbl, path=key, size=4, rows=1, sha256="0" * 64, schema=[("a", "int")], cuts=[0])


def commit(log: Log, store: MemoryStore, *tbls: str) -> list[str]:
    files = [file_of(log, store, tbl) for tbl in tbls or ("t",)]
    log.append(Change(files=files))
    return [f.path for f in files]


def data(store: MemoryStore, home: Home) -> set[str]:
    return {e.key for e in store.list(home.data_root)}


@pytest.fixture
def maintain(store: MemoryStore, home: Home, clock: object) -> Callable[..., Report]:
    def run(retain: float | None = None, deep: bool = False, on: MemoryStore | None = None) -> Report:
        ids = SystemIds(7)
        who = Writer(host="h", pid=1, session="maintainer", batch=0, version="0")
        return Maintainer(on or store, home, clock, ids, who, Retry(clock, ids, attempts=3)).run(retain, deep=deep)  # type: ignore[arg-type]

    return run


def seen(store: MemoryStore, home: Home, log: Log, consumer: str, **slots: int) -> None:
    found = [Seen(tbl, f"db.{tbl}", slot, "") for tbl, slot in slots.items()]
    cursors.write(store, home, Cursor(consumer, log.state.store, found))


# --- garbage of sealed epochs ---


def test_what_no_record_names_goes_once_its_epoch_is_sealed(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    log = new_log()
    kept = commit(log, store) + commit(log, store, "t", "Odd näme")
    lost = file_of(log, store).path
    assert maintain().files == 0 and data(store, home) == {*kept, lost}  # its record may still come
    second = new_log()
    early = file_of(second, store).path  # written before the epoch was opened
    kept += commit(second, store)
    report = maintain()
    assert (report.files, report.bytes) == (1, 4) and data(store, home) == {*kept, early}
    kept += commit(new_log(), store)
    assert maintain().files == 1 and data(store, home) == set(kept)


def test_files_of_the_newest_epoch_are_never_touched(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    commit(new_log(), store)
    running = new_log()
    before = [file_of(running, store).path for _ in range(3)]
    maintain(), maintain(deep=True)
    assert set(before) <= data(store, home)
    running.append(Change(files=[file_of(running, store)]))
    maintain(deep=True)
    assert set(before) <= data(store, home)


def test_rejects_and_manifests_are_collected_too(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.store.log.MAX_RECORD", 600)
    log = new_log()
    commit(log, store)
    kept = [e.key for e in store.list(home.manifests)]
    rejected = log.new_rejects_key("t")
    store.put(rejected, b"x")
    orphan = home.manifest(0, log.epoch, "f" * 32)
    store.put(orphan, b"x")
    commit(new_log(), store)
    assert maintain().files == 2 and len(kept) == 1
    left = [e.key for e in store.list(home.manifests)]
    assert kept[0] in left and orphan not in left and not list(store.list(home.rejects_root))
    assert record_module.MAX_RECORD == 1 << 20


def test_each_lane_is_judged_by_its_own_epochs(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    """Also one that never committed, and one that is no more."""
    first = new_log(lane=0, workers=3)
    kept = commit(first, store)
    for _ in range(3):
        log = new_log(lane=1, workers=3)
        kept += commit(log, store)
    running, silent = file_of(first, store), file_of(new_log(lane=2, workers=3), store)
    rejected = log.new_rejects_key("t")
    store.put(rejected, b"x")
    log.append(Change(rejects=[replace(silent, path=rejected)]))
    assert (first.epoch, log.epoch) == (1, 4)
    assert maintain(deep=True).files == 0 and data(store, home) == {*kept, running.path, silent.path}
    alone = new_log()
    alone.begin()
    kept += commit(alone, store)
    assert maintain().files == 2 and data(store, home) == set(kept)
    assert store.get(rejected) == b"x"


def test_a_second_pass_lists_only_what_is_new(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        commit(new_log(), store)
    maintain()
    listed: list[str] = []
    real = store.list

    def listing(prefix: str, start_after: str = ""):
        for entry in real(prefix, start_after):
            listed.append(entry.key)
            yield entry

    monkeypatch.setattr(store, "list", listing)
    commit(new_log(), store)
    maintain()
    assert 0 < sum("/data/" in key for key in listed) <= 4
    listed.clear()
    maintain(deep=True)
    assert sum("/data/" in key for key in listed) >= 21


@pytest.mark.parametrize("how", ["another history", "damaged", "gone"])
def test_what_was_remembered_counts_in_its_own_history_only(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], how: str
) -> None:
    """The log was brought back to an earlier state, its epochs and slots come again, and the memory is of a future that is gone."""
    commit(new_log(), store)
    earlier = {e.key: store.get(e.key) for e in store.list("")}
    for _ in range(8):
        commit(new_log(), store)
    maintain()
    future = store.get(home.collected)
    for key in [e.key for e in store.list("")]:
        store.delete(key)
    for key, content in earlier.items():
        store.put(key, content)
    kept = set(data(store, home))
    for _ in range(4):
        log = new_log()
        for _ in range(4):
            kept.update(commit(log, store))
        log.finish()
    memory = {"another history": future, "damaged": future[:-9] + b"x" + future[-8:]}.get(how)
    if memory is not None:
        store.put(home.collected, memory)
    maintain()
    assert data(store, home) == kept


def test_a_pass_that_fails_is_done_again(new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]) -> None:
    log = new_log()
    commit(log, store)
    lost = {file_of(log, store).path for _ in range(3)}
    commit(new_log(), store)
    delete, count = store.delete, iter(range(100))

    def failing(key: str) -> None:
        if "/data/" in key and next(count) >= 1:
            raise StoreUnavailable("no answer")
        delete(key)

    store.delete = failing  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        maintain()
    store.delete = delete  # type: ignore[method-assign]
    assert maintain().files == 2 and not lost & data(store, home)


# --- retention ---


def test_nothing_is_retired_that_nobody_registered_for(
    new_log: New, store: MemoryStore, maintain: Callable[..., Report], clock
) -> None:
    commit(new_log(), store)
    clock.us += int(90 * DAY * 1e6)
    report = maintain(retain=DAY)
    assert report.retired == {} and report.held_back == {"t": "no reader is registered for it"}


def test_old_files_that_all_have_loaded_are_retired(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock
) -> None:
    log = new_log()
    paths = []
    for _ in range(4):
        paths += commit(log, store, "t", "u")
        clock.us += int(DAY * 1e6)
    log.finish()
    seen(store, home, log, "me/fast", t=4, u=3)
    seen(store, home, log, "me/slow", t=2)
    report = maintain(retain=1.5 * DAY)
    assert report.retired == {"t": 2, "u": 3} and report.files == 5 and report.slot == 5
    gone = {paths[i] for i in (0, 2, 1, 3, 5)}
    assert data(store, home) == set(paths) - gone
    state = new_log().state
    assert state.retired == {"t": 2, "u": 3}
    again = maintain(retain=1.5 * DAY)
    assert again.retired == {} and again.files == 0 and new_log().state.slot == 5
    clock.us += int(9 * DAY * 1e6)
    assert maintain(retain=1.5 * DAY).retired == {}  # the slow one still needs what is left of t, the fast one of u


def test_what_is_young_stays(new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock) -> None:
    log = new_log()
    commit(log, store)
    seen(store, home, log, "me/db", t=1)
    clock.us += int(0.9 * DAY * 1e6)
    assert maintain(retain=DAY).retired == {}
    clock.us += int(0.2 * DAY * 1e6)
    assert maintain(retain=DAY).retired == {"t": 1}


def test_who_holds_back_is_named_with_what_it_lacks(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock
) -> None:
    """A database file that was replaced: its uploader has the new one, and the old one stays on the list."""
    log, began = new_log(), []
    for tbls in (("t", "u"), ("u",), ("t",), ("t",)):
        began.append(clock.us)
        commit(log, store, *tbls)
        clock.us += int(DAY * 1e6)
    old, new, other = Seen("t", "db.t@1:7", 1, ""), Seen("t", "db.t@1:8", 4, ""), Seen("u", "db.u@1:8", 0, "")
    cursors.write(store, home, Cursor("me/w", log.state.store, [old, new, other, Seen("gone", "db.gone@1:8", 0, "")]))
    report = maintain(retain=1.5 * DAY)
    assert report.retired == {"t": 1}
    held = [(h.tbl, h.consumer, h.target, h.loaded, h.since, h.ahead) for h in report.holders]
    assert held == [("t", "me/w", "db.t@1:7", 1, 3, True), ("u", "me/w", "db.u@1:8", 0, 1, False)]
    assert [abs(h.at - began[h.since - 1]) < DAY * 1e6 for h in report.holders] == [True, True]
    assert maintain(retain=3.5 * DAY).holders == [h for h in report.holders if h.tbl == "u"], "the rest is too young to go"
    assert cursors.forget_target(store, home, old.target) == ["me/w"]
    assert cursors.forget_target(store, home, old.target) == []
    assert maintain(retain=0.5 * DAY).retired == {"t": 4}
    assert [h.tbl for h in maintain(retain=0).holders] == ["u"]
    for target in (new.target, other.target, "db.gone@1:8"):
        assert cursors.forget_target(store, home, target) == ["me/w"]
    assert cursors.read(store, home, "me/w") is None, "a consumer without targets is no consumer"


def test_who_lacks_only_what_is_young_holds_nothing(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock
) -> None:
    log = new_log()
    commit(log, store)
    clock.us += int(2 * DAY * 1e6)
    commit(log, store)
    seen(store, home, log, "me/db", t=1)
    report = maintain(retain=DAY)
    assert report.retired == {"t": 1} and report.holders == []


def test_who_lacks_no_more_than_the_last_commit_is_named(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock
) -> None:
    log = new_log()
    commit(log, store)
    commit(log, store)
    seen(store, home, log, "me/db", t=1)
    clock.us += int(2 * DAY * 1e6)
    assert [(h.loaded, h.since, h.ahead) for h in maintain(retain=DAY).holders] == [(1, 2, False)]


def test_a_cursor_that_nobody_understands_is_no_target(store: MemoryStore, home: Home) -> None:
    store.put(home.cursor("me/old"), b"rubbish")
    assert cursors.forget_target(store, home, "db.t@1:7") == []
    assert store.get(home.cursor("me/old")) == b"rubbish"


@pytest.mark.parametrize("bad", [b"rubbish", None])
def test_a_reader_that_nobody_understands_holds_all_back(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], clock, bad: bytes | None
) -> None:
    log = new_log()
    commit(log, store)
    seen(store, home, log, "me/db", t=1)
    clock.us += int(9 * DAY * 1e6)
    if bad is None:
        cursors.write(store, home, Cursor("me/old", "another log", [Seen("t", "x", 9, "")]))
    else:
        store.put(home.cursor("me/old"), bad)
    report = maintain(retain=DAY)
    assert report.retired == {} and report.held_back
    assert cursors.forget(store, home, "me/old") and not cursors.forget(store, home, "me/old")
    assert maintain(retain=DAY).retired == {"t": 1}


def test_a_cursor_is_read_as_it_was_written(store: MemoryStore, home: Home) -> None:
    cursor = Cursor("me/db", "uuid", [Seen("t", "main.t", 3, "c")])
    assert cursors.read(store, home, "me/db") is None
    cursors.write(store, home, cursor)
    assert cursors.read(store, home, "me/db") == cursor and cursors.read_all(store, home) == [cursor]
    get = store.get
    store.get = lambda key: get(f"{key}?")  # type: ignore[method-assign]
    assert cursors.read_all(store, home) == []  # forgotten after it was listed
    store.get = get  # type: ignore[method-assign]
    store.put(home.cursor("me/db"), b"{")
    assert cursors.read(store, home, "me/db") is None and cursors.read_all(store, home) == [None]


def test_retired_files_are_deleted_even_if_the_first_try_was_killed(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    log = new_log()
    path = commit(log, store)[0]
    new_log().retire({"t": 1}, NOTE)  # and nobody deleted
    assert path in data(store, home)
    assert maintain().files == 1 and data(store, home) == set()


def test_a_retirement_disturbs_nobody(new_log: New, store: MemoryStore) -> None:
    log, late = new_log(), new_log()
    commit(log, store)
    new_log().retire({"t": 1}, NOTE)
    commit(log, store)
    assert log.state.slot == 3 and log.state.retired == {"t": 1}
    with pytest.raises(StaleSession):
        commit(late, store)


# --- reset ---


def test_a_reset_fences_whoever_is_running(new_log: New, store: MemoryStore) -> None:
    running, waiting = new_log(), new_log()
    commit(running, store)
    idle = new_log()
    new_log().reset(Change(note=NOTE))
    with pytest.raises(Fenced, match="was reset"):
        commit(running, store)
    with pytest.raises(StaleSession):
        commit(waiting, store)
    with pytest.raises(StaleSession):
        commit(idle, store)
    idle.load()
    commit(idle, store)
    assert idle.state.resets == [2] and idle.state.slot == 3 and idle.epoch > 3
    assert [r.kind for r in Reader(store, idle._home).records(0, "")] == ["open", "reset", "open"]


def test_a_reset_that_is_not_first_takes_the_next_slot(new_log: New, store: MemoryStore) -> None:
    person = new_log()
    commit(new_log(), store)
    commit(new_log(), store)
    record = person.reset(Change(note=NOTE))
    assert (record.slot, record.epoch, record.lane) == (3, 4, -1)


# --- snapshots and parts ---


def test_maintenance_keeps_a_snapshot_of_what_a_killed_session_left(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PAGE", 4)
    log = new_log()
    for _ in range(9):
        commit(log, store)
    report = maintain()
    assert report.snapshot and report.segments == 2 and report.slot == 9
    assert store.get(home.snapshot(9)) and json.loads(store.get(home.head)) == {"slot": 9}
    assert new_log().state == replace(log.state)


def test_parts_that_no_snapshot_names_go(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "INLINE", 2)
    monkeypatch.setattr(ledgers, "SHARD", 100)
    for n in range(6):
        log = new_log()
        log.append(Change(ledgers={"t": LedgerChange(put={f"k{n}{i}": n for i in range(3)})}))
        log.finish()
    newer = home.shard(99, "a" * 64)
    store.put(newer, b"just being written")
    assert maintain().parts == 3
    assert len(list(store.list(home.shards))) == 4 and store.get(newer)
    assert len(new_log().state.ledgers["t"]) == 18


def test_an_empty_home_has_nothing_to_do(maintain: Callable[..., Report], store: MemoryStore) -> None:
    assert maintain(retain=DAY) == Report() and not list(store.list(""))


def test_an_unknown_commit_is_nobodys_to_clean(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    """Its file may be named by a record that lands at any time, until a newer epoch is open."""
    commit(new_log(), store)
    log = new_log()
    file = file_of(log, store)
    create, get = store.create, store.get

    def lost(key: str, content: bytes) -> None:
        raise StoreUnavailable("no answer")

    store.create = lost  # type: ignore[method-assign]
    with pytest.raises(CommitUnknown):
        log.append(Change(files=[file]))
    store.create, store.get = create, get  # type: ignore[method-assign]
    maintain(deep=True)
    assert file.path in data(store, home)
    assert garbage.read_collected(store, home).epochs == {"0": 1}


def test_what_is_not_ours_is_left_alone(new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]) -> None:
    for n in range(3):
        commit(new_log(), store)
        store.put(f"{home.data_root}stray{n}", b"x")
    others = [
        f"{home.data_root}{name}" for name in ("a/b", "t/0-note", "t/0-x/y", "t/1-00000001/x", "t/.hidden/z", "zzz/0-00000001")
    ]
    for key in others:
        store.put(key, b"x")
    assert maintain(deep=True).files == 0
    assert set(others) < data(store, home)


def test_files_of_a_table_that_was_never_committed_go(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]
) -> None:
    lost = file_of(new_log(), store, "never").path
    commit(new_log(), store)
    commit(new_log(), store)
    assert maintain().files == 1 and lost not in data(store, home)


def test_retired_up_to_the_very_end(new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report]) -> None:
    log = new_log()
    commit(log, store)
    log.append(Change(files=[file_of(log, store, "u")]))
    new_log().retire({"t": 9}, NOTE)
    assert maintain().files == 1 and len(data(store, home)) == 1


def test_snapshots_that_move_are_left_for_another_time(
    new_log: New, store: MemoryStore, home: Home, maintain: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anchovies.core.errors import NotFound
    from anchovies.store import snapshot

    commit(new_log(), store)
    store.put(home.shard(0, "a" * 64), b"old")
    real, calls = snapshot.read, iter(range(9))

    def moving(*args: object) -> object:
        if next(calls):
            raise NotFound("collected since")
        return real(*args)  # type: ignore[arg-type]

    commit(new_log(), store)
    monkeypatch.setattr(snapshot, "read", moving)
    assert maintain().parts == 0 and store.get(home.shard(0, "a" * 64))
