"""Graphs that run: diamonds, tables that several feed, what is read for what was picked, and what methods are handed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.sdk import Downloader, Stream, Worker, context, on_task, sink, source


class Diamond(Downloader):
    """x → y, x → z, y and z → w → v; a mark after every third row of x."""

    upto = 30
    fails_at: int | None = None

    @source("x")
    def x(self) -> Any:
        at = context().checkpoint("x")
        for n in range(at.get(0), self.upto):
            yield {"n": n}
            if n % 3 == 2:
                at.set(n + 1)

    @source("y")
    @sink("x", streaming=True)
    def y(self, stream: Stream) -> Any:
        for row in stream:
            if row["n"] == self.fails_at:
                raise ZeroDivisionError("in y")
            yield {"n": row["n"]}
            yield {"n": row["n"]}

    @source("z")
    @sink("x", streaming=True)
    def z(self, stream: Stream) -> Any:
        for row in stream:
            if row["n"] % 2:
                yield {"n": row["n"]}
            if row["n"] == 14:
                time.sleep(0.05)  # one way is slower than the other

    @source("w")
    @sink("y", "z", streaming=True)
    def w(self, stream: Stream, table: str) -> Any:
        for row in stream:
            yield {"n": row["n"], "by": table}

    @source("v")
    @sink("w", streaming=True)
    def v(self, stream: Stream) -> Any:
        for row in stream:
            yield {"n": row["n"] * 10}


def made_of(ns: Iterable[int]) -> list[int]:
    """What comes to w of these rows of x."""
    return sorted(n for n in ns for _ in range(3 if n % 2 else 2))


@pytest.mark.parametrize("settings", [{}, {"commit_seconds": 0}, {"commit_bytes": 1}])
def test_a_diamond_is_committed_whole_and_its_units_are_those_above(place: Any, settings: Any) -> None:
    result = place.run(Diamond, **settings)
    assert [t.tbl for t in result.tables] == ["x", "y", "z", "w", "v"]
    assert [sorted(u) for u in place.units("w")] == [made_of(range(n, n + 3)) for n in range(0, 30, 3)]
    assert [sorted(u) for u in place.units("v")] == [[m * 10 for m in made_of(range(n, n + 3))] for n in range(0, 30, 3)]
    seen: set[int] = set()
    rows: list[int] = []
    for record in place.records():
        seen |= {r["n"] for r in place.rows_of(record, "x")}
        rows += [r["n"] for r in place.rows_of(record, "w")]
        assert sorted(rows) == made_of(seen)
        if record.change.checkpoints.set:
            assert record.change.checkpoints.set["x"].value == max(seen) + 1
    assert (place.checkpoint("x"), place.state().totals["v"].rows) == (30, 75)
    assert place.state().checkpoints["x"].tbls == ["v", "w", "x", "y", "z"]


@pytest.mark.parametrize("at", [0, 16, 29])
def test_a_diamond_that_fails_on_one_side_names_it_and_goes_on_from_its_marks(place: Any, at: int) -> None:
    class Failing(Diamond):
        fails_at = at

    with pytest.raises(ZeroDivisionError, match="in y"):
        place.run(Failing, commit_seconds=0)
    done = place.checkpoint("x") or 0
    assert done <= at
    assert sorted(r["n"] for r in place.rows("w")) == made_of(range(done))
    place.run(Diamond, commit_seconds=0)
    assert sorted(r["n"] for r in place.rows("w")) == made_of(range(30))


class TwoWays(Diamond):
    """Two chains from one table into another, whose own source reads as well."""

    @source("both", "w")
    @sink("x", streaming=True)
    def first(self, stream: Stream) -> Any:
        yield from stream

    @source("both")
    @sink("x", streaming=True)
    def second(self, stream: Stream) -> Any:
        for row in stream:
            yield {"n": -row["n"] - 1}

    @source("both")
    def both(self) -> Any:
        at = context().checkpoint("both")
        for n in range(at.get(100), 110):
            yield {"n": n}
            at.set(n + 1)


def test_a_table_with_a_source_and_two_chains(place: Any) -> None:
    got: list[int] = []

    class Seen(TwoWays):
        @sink("both")
        def look(self, stream: Stream) -> None:
            got.extend(r["n"] for r in stream)

    result = place.run(Seen, commit_seconds=0)
    want = [*range(-30, 30), *range(100, 110)]
    assert sorted(r["n"] for r in place.rows("both")) == sorted(got) == want  # the sink ran once, for all of them
    assert (place.checkpoint("x"), place.checkpoint("both")) == (30, 110)
    assert {t.tbl: t.kept for t in result.tables} == {"x": 30, "y": 60, "z": 15, "w": 105, "v": 105, "both": 70}
    assert place.run(Seen).rows == 0


def test_units_of_a_table_that_two_sources_feed(place: Any) -> None:
    place.run(TwoWays)
    of_x = [sorted([*range(n, n + 3), *(-m - 1 for m in range(n, n + 3))]) for n in range(0, 30, 3)]
    assert [sorted(u) for u in place.units("both")] == [*of_x, *([n] for n in range(100, 110))]
    assert place.reader().state().totals["both"].complete == place.state().slot


def test_a_feeder_that_returns_early_holds_nobody_up(place: Any) -> None:
    class Early(TwoWays):
        upto = 9000

        @source("both")
        @sink("x", streaming=True)
        def second(self, stream: Stream) -> Any:
            yield from itertools.islice(stream, 4)

    place.run(Early, enabled=["both"], commit_bytes=1)
    assert sorted(r["n"] for r in place.rows("both")) == sorted([*range(9000), *range(4), *range(100, 110)])


@pytest.mark.parametrize("takes", [1, 100])
def test_a_feeder_that_keeps_rows_back_makes_one_unit(place: Any, takes: int) -> None:
    class Held(Diamond):
        upto = 9000

        @source("w")
        @sink("z")
        def held(self, stream: Stream) -> Any:
            yield {"n": sum(r["n"] for r in itertools.islice(stream, takes)), "by": "held"}

    place.run(Held, commit_seconds=0, enabled=["w"])
    assert len(place.records()) == len(place.units("w")) == 1
    assert sorted(r["n"] for r in place.rows("w")) == sorted([*made_of(range(9000)), sum(range(1, 2 * takes, 2))])


def test_a_chain_of_many(place: Any) -> None:
    def link(to: str, of: str) -> Any:
        def method(self: Any, stream: Stream) -> Any:
            for row in stream:
                yield {"n": row["n"] + 1}

        return source(to)(sink(of, streaming=True)(method))

    long = type("Long", (Diamond,), {f"c{i}": link(f"t{i}", f"t{i - 1}" if i else "x") for i in range(20)})
    place.run(long, enabled=["t19"], commit_seconds=0)
    assert [r["n"] for r in place.rows("t19")] == list(range(20, 50))
    assert place.state().checkpoints["x"].tbls == ["t19"]
    assert not [t for t in place.state().totals if t != "t19"]


def test_chains_over_a_star_make_their_own_tables(place: Any) -> None:
    class Stars(Downloader):
        @source("raw_*")
        def raw(self, table: str) -> Any:
            yield {"t": table}

        @source("clean_*")
        @sink("raw_*", streaming=True)
        def clean(self, stream: Stream) -> Any:
            for row in stream:
                yield {"of": row["t"]}

        @source("audit")
        @sink(streaming=True)
        def audit(self, stream: Stream, table: str) -> Any:
            for _ in stream:
                yield {"of": table}

    place.run(Stars, tbls={"raw_a": {}, "raw_b": {}})
    assert (place.rows("clean_a"), place.rows("clean_b")) == ([{"of": "raw_a"}], [{"of": "raw_b"}])
    assert sorted(r["of"] for r in place.rows("audit")) == ["clean_a", "clean_b", "raw_a", "raw_b"]


def test_no_default_sink(place: Any) -> None:
    got: list[int] = []

    class Off(Diamond):
        default_sink = None

        @sink("x")
        def look(self, stream: Stream) -> None:
            got.extend(r["n"] for r in stream)

    place.run(Off)
    assert (got, place.named("/data/"), place.checkpoint("x")) == (list(range(30)), [], 30)


def test_wrong_names_end_the_run_before_anything_is_read(place: Any) -> None:
    read: list[int] = []

    class Wrong(Downloader):
        @source("orders")
        def orders(self) -> Any:
            read.append(1)
            yield {}

        @sink("oders")
        def look(self, stream: Stream) -> None: ...

    with pytest.raises(ConfigError, match="no table 'oders'") as caught:
        place.run(Wrong)
    assert "└─▶ orders  [kept]" in caught.value.message
    assert (read, place.named("/log/")) == ([], [])


def test_what_methods_are_handed(place: Any) -> None:
    got: dict[str, dict[str, Any]] = {}

    class All(Downloader):
        @source("a")
        def read_a(self, **kwds: Any) -> Any:
            got["read_a"] = kwds
            yield {"n": 1}

        @source("b")
        @sink("a")
        def make_b(self, stream: Stream, **kwds: Any) -> Any:
            got["make_b"] = kwds
            yield from stream

        @source("b")
        def read_b(self) -> Any:
            return ()

        @sink("b")
        def look(self, **kwds: Any) -> None:
            got["look"] = kwds

        @on_task("xopen")
        def hook(self, session: Any, batch: Any, task: Any) -> None:
            got["hook"] = {"session": session, "batch": batch}

    place.run(All)
    names = {"table", "tbl", "task", "batch", "session", "source", "sink", "worker"}
    assert set(got["read_a"]) == set(got["look"]) == names | {"stream"}
    assert set(got["make_b"]) == names
    assert [(got[m]["source"], got[m]["sink"]) for m in ("read_a", "make_b", "look")] == [
        ("read_a", None), ("read_a", "make_b"), ("read_b, make_b", "look")
    ]  # fmt: skip
    for given in (got["read_a"], got["make_b"], got["look"]):
        assert (given["worker"], given["session"], given["batch"]) == (Worker(0, 1), got["hook"]["session"], got["hook"]["batch"])
        assert given["tbl"].name == given["table"]
        assert given["task"].type == "TBL"


def test_marked_methods_are_called_like_any_other() -> None:
    rows = [{"n": 1}, {"n": 2}]
    assert list(Diamond().v(rows)) == [{"n": 10}, {"n": 20}]
    assert list(Diamond().w(stream=rows[:1], table="y")) == [{"n": 1, "by": "y"}]


def test_hooks_that_name_a_table_run_with_the_task_that_makes_it(place: Any) -> None:
    got: list[tuple[str, str, str | None]] = []

    class Hooked(Diamond):
        @on_task("tbl")
        def each(self, table: str, task: Any) -> None:
            got.append(("each", table, task.tbl))

        @on_task("tbl", tbl="w")
        def of_w(self, table: str, tbl: Any, task: Any) -> None:
            assert tbl.name == "w"
            got.append(("of_w", table, task.tbl))

    place.run(Hooked)
    assert got == [("each", "x", "x"), ("of_w", "w", "x")]
    place.run(Hooked, enabled=["y"])
    assert got[2:] == [("each", "x", "x")]
