"""Where commits and units are cut, what a quiet run leaves, what a write that fails leaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from anchovies.core.errors import ConfigError, StoreUnavailable
from anchovies.engine import writer
from anchovies.sdk import Downloader, context, source
from anchovies.store.base import Store
from anchovies.testing.faults import FaultyStore


def units_of(*sizes: int, arrow: bool = True, width: int = 400) -> type[Downloader]:
    """Units of so many rows, a mark after each; a negative size is discarded."""

    class Units(Downloader):
        @source("t")
        def t(self) -> Any:
            n = 0
            for i, size in enumerate(sizes):
                rows = [{"n": k, "text": f"{k:0{width}d}"} for k in range(n, n + abs(size))]
                for at in range(0, len(rows), 50):
                    yield pa.Table.from_pylist(rows[at : at + 50]) if arrow else rows[at : at + 50]
                n += abs(size)
                if size < 0:
                    context().discard()
                else:
                    context().checkpoint("n").set(i)

    return Units


def expected(*sizes: int) -> list[list[int]]:
    out, n = [], 0
    for size in sizes:
        if size > 0:
            out.append(list(range(n, n + size)))
        n += abs(size)
    return out


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SPILL_BYTES", 30_000)
    monkeypatch.setattr(writer, "ROLL_BYTES", 100_000)


@pytest.mark.parametrize("arrow", [True, False])
@pytest.mark.parametrize("commit_bytes", [1, 150_000, 1 << 30])
def test_units_survive_files_and_commits(place: Any, small_files: None, arrow: bool, commit_bytes: int) -> None:
    sizes = [10, 500, 1, 60, 700, 3, 3, 50]
    place.run(units_of(*sizes, arrow=arrow), commit_bytes=commit_bytes)
    assert place.units("t") == expected(*sizes)
    if arrow:  # rows wait until they are 2,000: all of these come as one piece
        assert len(place.files("t")) > 3
        assert [f for f in place.files("t") if f.file.cuts[:1] != [0]], "no unit spans files: the test says nothing"
    assert len(place.named("/data/")) == len(place.files("t"))


def test_discarded_units_leave_nothing_also_when_they_were_on_disk(place: Any, small_files: None) -> None:
    sizes = [10, -300, 20, -300, -5, 400, -300]
    result = place.run(units_of(*sizes))
    assert place.units("t") == expected(*sizes)
    assert result.tables[0].rows == result.tables[0].kept == 430
    assert len(place.named("/data/")) == len(place.files("t"))


def test_by_bytes_by_seconds_or_at_the_end(new_place: Callable[[], Any]) -> None:
    def commits(**settings: Any) -> int:
        place = new_place()
        place.run(units_of(50, 50, 50, 50), **settings)
        return len([r for r in place.records() if r.change.files])

    assert commits() == 1
    assert commits(commit_seconds=0) == 4
    assert commits(commit_bytes=30_000) == 2
    assert commits(commit_bytes=1) == 4


def test_without_a_mark_nothing_is_cut(place: Any, small_files: None) -> None:
    class Unmarked(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(40):
                yield pa.table({"n": [n] * 200, "text": ["x" * 100] * 200})

    place.run(Unmarked, commit_bytes=1, commit_seconds=0)
    assert len(place.records()) == 1
    assert [len(u) for u in place.units("t")] == [8000]
    assert len(place.files("t")) > 5


def test_the_end_of_a_task_is_on_record_also_when_its_rows_were_committed_before(place: Any) -> None:
    place.run(units_of(50, 50), commit_bytes=1)
    assert place.state().totals["t"].complete == place.state().slot


def test_a_run_with_nothing_new_leaves_nothing(place: Any) -> None:
    class Once(Downloader):
        @source("t")
        def t(self) -> Any:
            cursor = context().checkpoint("n")
            if cursor.get() is None:
                yield {"n": 1}
            cursor.set(1)

    place.run(Once)
    before = place.objects()
    result = place.run(Once)
    assert (result.commits, result.status, result.tables[0].rows) == (0, "ok", 0)
    assert place.objects() == before
    lease = place.store.get("tester/a/$log/lease.json")
    assert b'"quiet":{"count":1' in lease


def test_a_quiet_first_run_publishes_the_table_and_no_more(place: Any) -> None:
    class Empty(Downloader):
        @source("t")
        def t(self) -> Any:
            return iter(())

    place.run(Empty)
    assert place.state().tables["t"]["name"] == "t"
    assert not place.named("/data/")
    before = place.objects()
    assert place.run(Empty).commits == 0
    assert place.objects() == before


def test_a_changed_definition_is_published_without_rows(place: Any) -> None:
    class Empty(Downloader):
        @source("t")
        def t(self) -> Any:
            return iter(())

    place.run(Empty)
    assert place.run(Empty, tbls={"t": {"unique_by": "id"}}).commits == 1
    assert place.state().tables["t"]["unique_by"] == ["id"]
    assert place.run(Empty, tbls={"t": {"unique_by": "id"}}).commits == 0


def test_types_join_over_runs_and_freeze_holds_them(place: Any) -> None:
    class Typed(Downloader):
        row: dict[str, Any] = {}

        @source("t")
        def t(self) -> Any:
            yield self.row

    Typed.row = {"n": 1}
    place.run(Typed)
    Typed.row = {"n": 2, "m": "x"}
    with pytest.raises(ConfigError, match="frozen.*m is new"):
        place.run(Typed, tbls={"t": {"schema": "freeze"}})
    assert place.rows("t") == [{"n": 1}]
    place.run(Typed)
    assert place.state().tables["t"]["columns"] == [["n", "int"], ["m", "str"]]


class Fails(FaultyStore):
    """Fails every `put` of a data file from the n-th on."""

    def put(self, key: str, data: bytes) -> None:
        if "/data/" in key:
            self.ops.append(("put", key))
            if self.nth <= len(self.ops) < self.nth + self.times:
                raise StoreUnavailable("injected")
        self.inner.put(key, data)

    def _do(self, verb: str, key: str, do: Callable[[], Any]) -> Any:
        return do()


def test_a_data_file_is_tried_again(place: Any, swap_store: Callable[[Any, Callable[[Store], Store]], Store]) -> None:
    swap_store(place, lambda inner: Fails(inner, nth=1, times=2))
    place.run(units_of(5, 5))
    assert place.units("t") == expected(5, 5)


def test_a_data_file_that_cannot_be_stored_is_no_file(
    place: Any, swap_store: Callable[[Any, Callable[[Store], Store]], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    swap_store(place, lambda inner: Fails(inner, nth=2, times=1000))
    with pytest.raises(StoreUnavailable):
        place.run(units_of(50, 50, 50), commit_bytes=1)
    assert place.units("t") == expected(50)
    assert place.checkpoint("n") == 0


def test_an_encoder_that_fails_commits_neither_its_rows_nor_their_checkpoint(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    real = writer.conform

    def conform(batch: Any, types: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("disk of the encoder")
        return real(batch, types)

    monkeypatch.setattr(writer, "conform", conform)
    with pytest.raises(RuntimeError, match="disk of the encoder"):
        place.run(units_of(50, 50, 50, 50))
    assert place.rows("t") == []
    assert place.checkpoint("n") is None
    assert not place.named("/data/")


def test_receipts_say_what_was_read_kept_and_made_of_what(place) -> None:  # type: ignore[no-untyped-def]
    class Parts(Downloader):
        @source("t")
        def t(self, **kwds: Any) -> Any:
            for part in range(3):
                yield [{"n": n} for n in range(part + 1)]
                context().receipt(f"part-{part}", rows=part + 1, bytes=10 * part, sha256="ab", first=0, last=date(2026, 1, 1))
                context().checkpoint("part").set(part)

    place.run(Parts)
    place.run(Parts)
    receipts = [r.change.receipts for r in place.records()]
    assert [(r["t"]["rows"], r["t"]["kept"], r["t"]["rejected"]) for r in receipts] == [(6, 6, 0)] * 2
    said = receipts[1]["t"]["sources"]
    assert [(s["name"], s["rows"]) for s in said] == [("part-0", 1), ("part-1", 2), ("part-2", 3)]
    assert said[2] == {"name": "part-2", "rows": 3, "bytes": 20, "sha256": "ab", "first": 0, "last": {"$date": "2026-01-01"}}


def test_a_receipt_alone_is_no_news(place) -> None:  # type: ignore[no-untyped-def]
    class Empty(Downloader):
        @source("t")
        def t(self, **kwds: Any) -> Any:
            context().receipt("nothing", rows=0)
            return ()

    place.run(Empty)
    known = place.records()  # that there is such a table
    place.run(Empty)
    assert place.records() == known


def test_a_receipt_says_only_what_it_can(place) -> None:  # type: ignore[no-untyped-def]
    class Wrong(Downloader):
        @source("t")
        def t(self, **kwds: Any) -> Any:
            context().receipt("x", colour="red")
            return ()

    with pytest.raises(ConfigError, match="not 'colour'"):
        place.run(Wrong)
