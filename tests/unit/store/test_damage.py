"""Bits flip, objects are cut, swapped, taken away: each is found, named, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anchovies.core.errors import AnchovyError, CorruptDatastore, HistoryDiverged
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.packed import pack, unpack
from anchovies.store.record import Change

New = Callable[..., Log]
Make = Callable[..., Change]


@pytest.fixture
def filled(new_log: New, change: Make, store: MemoryStore) -> MemoryStore:
    for _ in range(2):
        log = new_log()
        log.append(change())
        log.append(change())
        log.finish()
    return store


def damaged(data: bytes) -> list[bytes]:
    step = max(1, len(data) // 60)
    flips = [data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :] for i in range(0, len(data), step)]
    cuts = [data[:n] for n in range(0, len(data), step)]
    return [*flips, *cuts, b"\0" * len(data), data + b"x", data + data]


@pytest.mark.parametrize("which", ["format", "slot", "snapshot"])
def test_each_damage_is_found(filled: MemoryStore, home: Home, new_log: New, which: str) -> None:
    key = {"format": home.format, "slot": home.slot(2), "snapshot": home.snapshot(4)}[which]
    data = filled.get(key)
    for n in (2, 4):
        if which == "slot":
            filled.delete(home.snapshot(n))
    for bad in damaged(data):
        filled.put(key, bad)
        with pytest.raises(AnchovyError) as e:
            new_log()
        assert e.value.hint and (key in str(e.value) or which == "format"), bad
    filled.put(key, data)
    new_log()


def test_a_damaged_snapshot_says_how_to_get_rid_of_it(filled: MemoryStore, home: Home, new_log: New) -> None:
    state = new_log().state
    filled.put(home.snapshot(4), b"rubbish")
    with pytest.raises(CorruptDatastore) as e:
        new_log()
    assert "delete that file" in (e.value.hint or "")
    filled.delete(home.snapshot(4))
    assert new_log().state == state


def test_objects_in_each_others_place(filled: MemoryStore, home: Home, new_log: New) -> None:
    for here, there in (
        (home.slot(5), home.slot(4)),
        (home.snapshot(9), home.snapshot(4)),
    ):
        filled.put(here, filled.get(there))
        with pytest.raises(CorruptDatastore):
            new_log()
        filled.delete(here)


def test_objects_of_another_anchovy(filled: MemoryStore, home: Home, new_log: New, change: Make, clock: Any) -> None:
    other = MemoryStore(clock=clock)
    log = new_log(on=other)
    for _ in range(6):
        log.append(change())
    log.finish()
    filled.put(home.slot(5), other.get(home.slot(5)))
    with pytest.raises(HistoryDiverged):
        new_log()
    filled.delete(home.slot(5))
    filled.put(home.snapshot(6), other.get(home.snapshot(6)))
    with pytest.raises(HistoryDiverged):
        new_log()


def test_a_log_without_its_marker(filled: MemoryStore, home: Home, new_log: New) -> None:
    filled.delete(home.format)
    with pytest.raises(CorruptDatastore, match=r"_format\.json is missing"):
        new_log()


def test_a_marker_that_comes_while_we_look(filled: MemoryStore, home: Home, new_log: New) -> None:
    marker = filled.get(home.format)
    filled.delete(home.format)
    late = MemoryStore.get

    class Late(MemoryStore):
        def get(self, key: str) -> bytes:
            if key == home.slot(1):
                filled.put(home.format, marker)
            return late(filled, key)

        def list(self, *args: Any) -> Any:
            return filled.list(*args)

    assert new_log(on=Late()).state.slot == 4


# --- readers ---


def test_a_reader_goes_record_by_record(filled: MemoryStore, home: Home, new_log: New) -> None:
    reader = Reader(filled, home)
    records = list(reader.records(0, ""))
    assert [r.slot for r in records] == [1, 2, 3, 4]
    assert [r.slot for r in reader.records(2, records[1].cid, limit=1)] == [3]
    assert reader.next(4, records[3].cid) is None
    assert reader.exists() and reader.state() == new_log().state


def test_a_reader_of_nothing(store: MemoryStore) -> None:
    reader = Reader(store, Home("nobody", "here"))
    assert not reader.exists()
    assert reader.next(0, "") is None
    assert reader.state().slot == 0


def test_an_idle_reader_asks_once(filled: MemoryStore, home: Home, new_log: New, change: Make) -> None:
    reader = Reader(filled, home)
    last = list(reader.records(0, ""))[-1]
    gets: list[str] = []
    filled.get = lambda key: gets.append(key) or MemoryStore.get(filled, key)  # type: ignore[method-assign]
    assert reader.next(last.slot, last.cid) is None
    assert gets == [home.slot(5)]
    new_log().append(change())
    assert reader.next(last.slot, last.cid).slot == 5


def test_a_log_that_was_rolled_back_or_replaced_is_noticed(filled: MemoryStore, home: Home) -> None:
    last = list(Reader(filled, home).records(0, ""))[-1]
    assert Reader(filled, home).next(4, last.cid) is None
    for slot, cid in ((4, "another"), (3, "another"), (9, "gone")):
        with pytest.raises(HistoryDiverged):
            Reader(filled, home).next(slot, cid)
    filled.delete(home.slot(4))
    with pytest.raises(HistoryDiverged):
        Reader(filled, home).next(4, last.cid)


def test_a_reader_settles_what_it_saw(filled: MemoryStore, home: Home) -> None:
    settled: list[str] = []
    filled.settle = settled.append  # type: ignore[method-assign]
    record = Reader(filled, home).next(0, "")
    assert settled == [home.slot(1)] and record.slot == 1


def test_gzip_that_is_ours_and_bounded() -> None:
    data = b"x" * 100_000
    assert unpack(pack(data), "k", "h") == data
    with pytest.raises(CorruptDatastore):
        unpack(pack(data), "k", "h", limit=99_999)
