"""Pages of the log in one object: read by whoever is far behind, and trusted by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anchovies.core.errors import CorruptDatastore, HistoryDiverged
from anchovies.core.retry import Retry
from anchovies.store import keys, segments
from anchovies.store import log as log_module
from anchovies.store.follow import Reader
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change

New = Callable[..., Log]
Make = Callable[..., Change]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "PAGE", 8)
    monkeypatch.setattr(log_module, "SNAPSHOT_EVERY", 5)


@pytest.fixture
def filled(new_log: New, change: Make) -> Log:
    """30 slots: pages 0 (slots 1 to 7), 1 and 2 are whole."""
    log = new_log()
    for n in range(30):
        log.append(change(n=n))
    log.finish()
    return log


def history(store: MemoryStore, home: Home, clock: object) -> History:
    return History(store, home, Retry(clock, None, attempts=1))  # type: ignore[arg-type]


class Counting:
    """What is read of a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return self.store.get(key)

    def get_many(self, wanted: list[str]) -> Iterator[bytes | None]:
        for data, key in zip(self.store.get_many(wanted), wanted, strict=False):
            self.read.append(key)
            yield data

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


def test_whole_pages() -> None:
    assert [(r[0], r[-1]) for r in segments.whole_pages(0, 6)] == []
    assert [(r[0], r[-1]) for r in segments.whole_pages(0, 7)] == [(1, 7)]
    assert [(r[0], r[-1]) for r in segments.whole_pages(0, 22)] == [(1, 7), (8, 15)]
    assert [(r[0], r[-1]) for r in segments.whole_pages(7, 23)] == [(8, 15), (16, 23)]
    assert [(r[0], r[-1]) for r in segments.whole_pages(23, 30)] == []


@pytest.mark.usefixtures("filled")
def test_a_log_is_sealed_page_by_page(store: MemoryStore, home: Home, clock: object) -> None:
    h = history(store, home, clock)
    state, base = h.load()
    assert (state.slot, base) == (30, 30)
    assert [(s.start, s.end) for s in h.segments] == [(1, 7), (8, 15), (16, 23)]
    for s in h.segments:
        assert [r.slot for r in segments.read(store, home, s)] == list(range(s.start, s.end + 1))


def test_the_same_slots_give_the_same_object(filled: Log, store: MemoryStore, home: Home, clock: object) -> None:
    h = history(store, home, clock)
    h.load()
    before = {e.key for e in store.list(home.segments)}
    h.segments = []
    assert [s.start for s in h.seal_pages(filled.state.slot)] == [1, 8, 16]
    assert {e.key for e in store.list(home.segments)} == before


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20, 22, 23, 24, 29, 30])
def test_records_from_segments_are_those_of_the_slots(store: MemoryStore, home: Home, clock: object, start: int) -> None:
    h = history(store, home, clock)
    whole = list(h.records(start))  # no segment is known yet
    h.load()
    counting = Counting(store)
    h.store = counting  # type: ignore[assignment]
    assert list(h.records(start)) == whole
    assert [r.slot for r in whole] == list(range(start + 1, 31))
    slots = [k for k in counting.read if "/log/0" in k]
    assert len(slots) <= (30 - max(start, 23)) + 1 if start < 24 else 31 - start


@pytest.mark.usefixtures("filled")
def test_a_reader_far_behind_takes_segments(store: MemoryStore, home: Home) -> None:
    counting = Counting(store)
    reader = Reader(counting, home)  # type: ignore[arg-type]
    assert reader.state().slot == 30
    counting.read.clear()
    assert [r.slot for r in reader.records(0, "")] == list(range(1, 31))
    assert len(counting.read) < 30
    assert [r.slot for r in reader.records(0, "", 3)] == [1, 2, 3]
    assert list(reader.records(0, "", 0)) == []


@pytest.mark.usefixtures("filled")
def test_a_reader_of_another_history_is_told(store: MemoryStore, home: Home) -> None:
    reader = Reader(store, home)
    reader.state()
    with pytest.raises(HistoryDiverged):
        list(reader.records(9, "0" * 32))


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("how", ["gone", "flipped", "swapped"])
def test_without_a_segment_the_slots_are_read(store: MemoryStore, home: Home, clock: object, how: str) -> None:
    h = history(store, home, clock)
    h.load()
    first, second = (segments.key_of(home, s) for s in h.segments[:2])
    data = store.get(first)
    if how == "gone":
        store.delete(first)
    else:
        store.put(first, store.get(second) if how == "swapped" else data[:40] + bytes([data[40] ^ 1]) + data[41:])
        with pytest.raises(CorruptDatastore, match="delete that file|damaged"):
            segments.read(store, home, h.segments[0])
    assert [r.slot for r in h.records(0)] == list(range(1, 31))


@pytest.mark.usefixtures("filled")
def test_a_hole_between_segments_is_read_slot_by_slot(store: MemoryStore, home: Home, clock: object) -> None:
    h = history(store, home, clock)
    h.load()
    del h.segments[1]
    assert [r.slot for r in h.records(0)] == list(range(1, 31))


@pytest.mark.usefixtures("filled")
def test_a_segment_whose_name_lies_is_refused(store: MemoryStore, home: Home, clock: object) -> None:
    h = history(store, home, clock)
    h.load()
    lines = [store.get(home.slot(n)) for n in range(2, 8)]
    with pytest.raises(CorruptDatastore, match="does not hold the slots"):
        segments.read(store, home, segments.write(store, home, range(1, 7), lines))


@pytest.mark.usefixtures("filled")
def test_a_slot_that_is_missing_seals_no_page(store: MemoryStore, home: Home, clock: object) -> None:
    h = history(store, home, clock)
    h.load()
    h.segments = []
    store.delete(home.slot(3))
    with pytest.raises(CorruptDatastore, match="missing"):
        h.seal_pages(30)
