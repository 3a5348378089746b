"""Tables that were not always picked: each has every row once, and a checkpoint value of its own while it stands elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from anchovies.sdk import Downloader, Stream, context, on_task, sink, source
from anchovies.store.record import CheckpointValue as V


class Shop(Downloader):
    """orders → lines → parts; a mark after each order."""

    upto = 5
    reads: list[int] = []
    fails_at: int | None = None

    @source("orders")
    def orders(self) -> Iterator[Any]:
        at = context().checkpoint("orders")
        for n in range(at.get(0), self.upto):
            self.reads.append(n)
            if n == self.fails_at:
                raise ZeroDivisionError
            yield {"n": n}
            at.set(n + 1)

    @source("lines")
    @sink("orders", streaming=True)
    def lines(self, stream: Stream) -> Any:
        for row in stream:
            yield {"n": row["n"]}

    @source("parts")
    @sink("lines", streaming=True)
    def parts(self, stream: Stream) -> Any:
        yield from stream


TABLES = ("orders", "lines", "parts")


def shop(upto: int, **more: Any) -> type[Shop]:
    return type("Now", (Shop,), {"upto": upto, "reads": [], **more})


def rows(place: Any) -> dict[str, list[int]]:
    return {t: [r["n"] for r in place.rows(t)] for t in TABLES}


def test_a_table_that_is_enabled_later_loses_nothing_and_the_others_get_nothing_twice(place: Any) -> None:
    place.run(shop(5), enabled=["orders"])
    place.run(now := shop(8), commit_seconds=0)
    assert rows(place) == {key: list(range(8)) for key in TABLES}
    assert now.reads == [5, 6, 7, *range(8)]
    assert place.state().values("orders") == [V(8, ["lines", "orders", "parts"])]  # one again
    again = shop(9)
    result = place.run(again)
    assert (again.reads, result.warnings) == ([8], [])


def test_what_was_made_first_is_not_made_again_for_what_it_is_made_of(place: Any) -> None:
    place.run(shop(4), enabled=["parts"])
    assert place.state().values("orders") == [V(4, ["parts"])]
    result = place.run(shop(6), enabled=["orders", "parts"])
    assert [len(r) for r in rows(place).values()] == [6, 0, 6]
    assert {t.tbl: (t.rows, t.kept) for t in result.tables} == {"orders": (8, 6), "lines": (2, 0), "parts": (2, 2)}
    (said,) = result.warnings
    assert said.startswith("orders is read 2 times, because its tables stand at different values of orders: orders; parts.")


def test_a_failure_between_two_keeps_what_the_first_has_done(place: Any) -> None:
    place.run(shop(4), enabled=["orders"])
    with pytest.raises(ZeroDivisionError):
        place.run(shop(6, fails_at=2), commit_seconds=0, batch_policy="raise")  # orders go on from 4, then lines from 0
    values = {tuple(v.tbls): v.value for v in place.state().values("orders")}
    assert values[("orders",)] == 6
    assert len(rows(place)["lines"]) == values.get(("lines", "parts"), 0) <= 2
    place.run(shop(7))
    assert rows(place) == {key: list(range(7)) for key in TABLES}


@pytest.mark.parametrize("seed", range(12))
def test_however_tables_are_picked_each_row_comes_once(place: Any, seed: int) -> None:
    rng = Random(seed)
    upto, until = 0, dict.fromkeys(TABLES, 0)
    for _ in range(8):
        upto += rng.randint(0, 3)
        picked = rng.sample(TABLES, rng.randint(1, 3))
        place.run(shop(upto), enabled=picked, commit_seconds=rng.choice([0, 30]))
        until |= dict.fromkeys(picked, upto)
        assert rows(place) == {t: list(range(n)) for t, n in until.items()}
    assert {t: v.value for v in place.state().values("orders") for t in v.tbls} == {t: n for t, n in until.items() if n}


def test_a_custom_sink_is_fed_like_a_table_that_is_kept(place: Any) -> None:
    got: list[int] = []

    class Looked(Shop):
        @source("lines", store=False)
        @sink("orders", streaming=True)
        def lines(self, stream: Stream) -> Any:
            yield from stream

        @sink("lines")
        def look(self, stream: Stream) -> None:
            got.extend(r["n"] for r in stream)

    place.run(Looked, disabled=["lines"])
    place.run(Looked)
    assert got == list(range(5))
    assert place.state().values("orders") == [V(5, ["lines", "orders", "parts"])]


def test_what_a_hook_sets_is_seen_by_all_that_have_none_of_their_own(place: Any) -> None:
    class Hooked(Shop):
        start: int | None = 3

        @on_task("xopen")
        def begin(self) -> None:
            if self.start is not None:
                context().checkpoint("orders").set(self.start)

    place.run(Hooked, enabled=["orders"])
    assert place.state().values("orders") == [V(5, ["orders"]), V(3, [])]
    Hooked.start = None
    place.run(Hooked)
    assert rows(place) == {"orders": [3, 4], "lines": [3, 4], "parts": [3, 4]}
    Hooked.start = 1  # set anew: for everybody
    place.run(Hooked)
    assert rows(place)["lines"] == [3, 4, 1, 2, 3, 4]
    assert place.state().values("orders") == [V(5, ["lines", "orders", "parts"]), V(1, [])]


def test_a_value_that_is_deleted_is_deleted_for_those_that_are_read(place: Any) -> None:
    class Deleting(Shop):
        @source("orders")
        def orders(self) -> Any:
            yield {"n": -1}
            context().checkpoint("orders").delete()

    place.run(shop(4))
    place.run(Deleting, enabled=["orders", "lines"])
    assert place.state().values("orders") == [V(4, ["parts"])]
    place.run(Deleting, enabled=["parts"])
    assert place.state().values("orders") == []
    slot = place.state().slot
    place.run(type("None_", (Deleting,), {"orders": source("orders")(lambda self: context().checkpoint("orders").delete())}))
    assert place.state().slot == slot  # nothing was there: nothing to say


def test_a_full_refresh_of_one_table_leaves_the_others_where_they_are(place: Any) -> None:
    place.run(shop(4))
    place.run(now := shop(5), full_refresh=True, enabled=["lines"])
    assert (now.reads, rows(place)["lines"]) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 0, 1, 2, 3, 4])
    assert place.state().values("orders") == [V(5, ["lines"]), V(4, ["orders", "parts"])]
    place.run(shop(6), full_refresh=True, disabled=["parts"])
    assert [len(r) for r in rows(place).values()] == [10, 15, 4]
    place.run(shop(6), full_refresh=True)
    assert [len(r) for r in rows(place).values()] == [16, 21, 10]
    assert place.state().values("orders") == [V(6, ["lines", "orders", "parts"])]


def test_the_readable_copy_says_who_stands_where(place: Any) -> None:
    place.run(shop(4))
    key = "tester/a/$checkpoints/orders.json"
    assert json.loads(place.store.get(key)) == {"key": "orders", "value": 4, "tbls": ["lines", "orders", "parts"]}
    place.run(shop(5), enabled=["lines"])
    others = [{"value": 4, "tbls": ["orders", "parts"]}]
    assert json.loads(place.store.get(key)) == {"key": "orders", "value": 5, "tbls": ["lines"], "others": others}


def test_what_only_does_something_else_runs_once_beside(place: Any) -> None:
    got: list[int] = []

    class Beside(Shop):
        @source("told", store=False)
        @sink("orders", streaming=True)
        def tell(self, stream: Stream) -> Iterator[Any]:
            for row in stream:
                got.append(row["n"])
                yield row

    place.run(Beside, enabled=["lines"])
    place.run(Beside)
    assert got == list(range(5))
    assert rows(place)["parts"] == list(range(5))


def test_sources_that_meet_stand_apart_too(place: Any) -> None:
    class Two(Shop):
        @source("more")
        def more(self) -> Any:
            at = context().checkpoint("more")
            for n in range(at.get(100), 100 + self.upto):
                yield {"n": n}
                at.set(n + 1)

        @source("lines")
        @sink("orders", "more", streaming=True)
        def lines(self, stream: Stream) -> Any:
            yield from stream

    place.run(Two, enabled=["more"])
    place.run(Two, disabled=["parts"])
    place.run(Two, disabled=["parts"])
    assert sorted(rows(place)["lines"]) == [*range(5), *range(100, 105)]
    assert ([r["n"] for r in place.rows("more")], rows(place)["orders"]) == (list(range(100, 105)), list(range(5)))
