"""Custom sinks and chains: who gets which rows, what passes with them, what failing and slow ones do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from anchovies.core.errors import ConfigError, FatalError
from anchovies.sdk import Downloader, Stream, context, sink, source


class Orders(Downloader):
    """Orders with lines; a mark after each order."""

    count = 20

    @source("orders")
    def orders(self) -> Any:
        cursor = context().checkpoint("orders")
        for n in range(cursor.get(0), self.count):
            yield {"n": n, "lines": [{"n": n * 10 + i} for i in range(n % 3)]}
            cursor.set(n + 1)


LINES = [n * 10 + i for n in range(20) for i in range(n % 3)]


class Chain(Orders):
    @source("lines")
    @sink("orders", streaming=True)
    def lines(self, stream: Stream) -> Any:
        for order in stream:
            yield from order["lines"] or ()


def test_a_streaming_chain_is_committed_with_its_source(place: Any) -> None:
    result = place.run(Chain, commit_bytes=1)
    assert [t.tbl for t in result.tables] == ["orders", "lines"]
    assert [r["n"] for r in place.rows("lines")] == LINES
    seen_orders: set[int] = set()
    seen_lines: set[int] = set()
    for record in place.records():
        seen_orders |= {r["n"] for r in place.rows_of(record, "orders")}
        seen_lines |= {r["n"] for r in place.rows_of(record, "lines")}
        assert seen_lines == {x for x in LINES if x // 10 in seen_orders}
    assert place.checkpoint("orders") == 20


def test_units_flow_through_a_streaming_chain_however_it_is_committed(place: Any, new_place: Any) -> None:
    one, many = new_place(), new_place()
    one.run(Chain)
    many.run(Chain, commit_seconds=0)
    assert one.units("lines") == many.units("lines") == [u for n in range(20) if (u := [x for x in LINES if x // 10 == n])]
    assert len(many.records()) >= len(one.records()) == 1


class Holding(Orders):
    @source("pairs")
    @sink("orders")
    def pairs(self, stream: Stream) -> Any:
        held = None
        for order in stream:
            if held is not None:
                yield {"n": held}
            held = order["n"]
        yield {"n": held}


def test_a_sink_that_may_hold_back_is_one_commit_at_its_end(place: Any) -> None:
    place.run(Holding, commit_bytes=1, commit_seconds=0)
    assert len(place.records()) == 1
    assert [r["n"] for r in place.rows("pairs")] == list(range(20))


def test_chains_of_chains_and_what_they_set(place: Any) -> None:
    class Long(Chain):
        @source("doubles")
        @sink("lines", streaming=True)
        def doubles(self, stream: Stream) -> Any:
            for batch in stream.batches():
                yield batch
                yield batch
                context().checkpoint("doubles").set(batch.column("n")[-1].as_py())

    place.run(Long, commit_seconds=0)
    assert sorted(r["n"] for r in place.rows("doubles")) == sorted(LINES * 2)
    assert place.checkpoint("doubles") == LINES[-1]


def test_every_matching_sink_gets_every_row(place: Any) -> None:
    got: dict[str, list[int]] = {"one": [], "all": []}

    class Two(Orders):
        @sink("orders")
        def one(self, stream: Stream, table: str) -> None:
            assert table == "orders" == stream.tbl.name
            got["one"] += [r["n"] for r in stream]

        @sink()
        def all(self, stream: Stream) -> None:
            got["all"] += [n for b in stream.batches() for n in b.column("n").to_pylist()]
            assert list(stream) == []

    place.run(Two)
    assert got == {"one": list(range(20)), "all": list(range(20))}
    assert len(place.rows("orders")) == 20


@pytest.mark.parametrize("marked", [True, False])
def test_an_own_default_sink_keeps_rows_out_of_the_datastore(place: Any, marked: bool) -> None:
    got: list[int] = []

    class Own(Orders):
        def default_sink(self, stream: Stream, **kwds: Any) -> None:
            got.extend(r["n"] for r in stream)

    if marked:
        Own.default_sink = sink()(Own.default_sink)  # type: ignore[method-assign]
    place.run(Own)
    assert got == list(range(20))
    assert not place.named("/data/")
    assert place.checkpoint("orders") == 20


def test_store_false_feeds_sinks_only(place: Any) -> None:
    class Unstored(Downloader):
        @source("raw", store=False)
        def raw(self) -> Any:
            yield {"n": 1}
            context().checkpoint("raw").set(1)

        @source("kept")
        @sink("raw", streaming=True)
        def kept(self, stream: Stream) -> Any:
            for row in stream:
                yield {"n": row["n"] + 1}

        @source("unkept", store=False)
        @sink("kept", streaming=True)
        def unkept(self, stream: Stream) -> Any:
            yield from stream

    place.run(Unstored)
    assert (place.rows("raw"), place.rows("kept"), place.rows("unkept")) == ([], [{"n": 2}], [])
    assert place.checkpoint("raw") == 1


def test_only_picked_tables_are_kept_and_only_their_sinks_run(place: Any) -> None:
    got: list[int] = []

    class Picky(Chain):
        @sink("orders")
        def look(self, stream: Stream) -> None:
            got.extend(r["n"] for r in stream)

    place.run(Picky, enabled=["lines"])
    assert place.rows("orders") == []
    assert len(place.rows("lines")) == len(LINES)
    assert got == []


def test_a_sink_may_return_early_or_take_nothing(place: Any) -> None:
    class Early(Orders):
        count = 8000

        @sink("orders")
        def first(self, stream: Stream) -> None:
            for _ in stream:
                return

        @sink("orders")
        def none(self, stream: Stream) -> None:
            return

    place.run(Early)
    assert len(place.rows("orders")) == 8000


@pytest.mark.parametrize("at", [0, 5, 19])
def test_a_sink_that_raises_fails_the_task_and_nothing_of_it_is_half_there(place: Any, at: int) -> None:
    class Raising(Orders):
        @sink("orders", streaming=True)
        def bad(self, stream: Stream) -> None:
            for row in stream:
                if row["n"] == at:
                    raise ZeroDivisionError("in the sink")

    with pytest.raises(ZeroDivisionError) as caught:
        place.run(Raising, commit_bytes=1)
    assert caught.traceback[-1].path.name == "test_sinks.py"
    rows = [r["n"] for r in place.rows("orders")]
    assert rows == list(range(len(rows)))
    assert len(rows) <= at
    assert place.checkpoint("orders") == (len(rows) or None)
    assert not [t for t in threading.enumerate() if t.name == "sink-bad"]


def test_a_slow_sink_holds_the_source_back(place: Any) -> None:
    ahead = []
    gate = threading.Semaphore(0)

    class Slow(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(40):
                ahead.append(n)
                yield [{"n": n, "text": "x" * 1000}] * 2000

        @sink("t")
        def slow(self, stream: Stream) -> None:
            for i, _ in enumerate(stream.batches()):
                if i == 0:
                    gate.acquire(timeout=0.2)
                    assert len(ahead) < 20

    assert place.run(Slow).tables[0].kept == 80_000


def test_a_sink_that_yields_is_a_chain_or_a_mistake(place: Any) -> None:
    class Mistake(Orders):
        @sink("orders")
        def lost(self, stream: Stream) -> Any:
            yield from stream

    with pytest.raises(FatalError, match="no @source"):
        place.run(Mistake)


def test_discard_and_sinks_exclude_each_other(place: Any) -> None:
    class Both(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().discard()

        @sink("t")
        def take(self, stream: Stream) -> None:
            list(stream)

    with pytest.raises(FatalError, match="discard"):
        place.run(Both)


def test_a_circle_is_refused(place: Any) -> None:
    class Circle(Downloader):
        @source("a")
        @sink("b")
        def a(self, stream: Stream) -> Any:
            yield from stream

        @source("b")
        @sink("a")
        def b(self, stream: Stream) -> Any:
            yield from stream

    with pytest.raises(ConfigError, match="circle"):
        place.run(Circle)


def test_rows_of_a_chain_are_read_as_the_columns_of_its_table(place: Any) -> None:
    class Text(Downloader):
        @source("a", store=False)
        def a(self) -> Any:
            yield {"n": "007"}

        @source("b")
        @sink("a")
        def b(self, stream: Stream) -> Any:
            yield from stream

    place.run(Text, tbls={"b": {"columns": {"n": "int"}}})
    assert place.rows("b") == [{"n": 7}]
