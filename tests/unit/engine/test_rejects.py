"""Rejects: in the commit of their unit, once, dropped with it, collected with its data; and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.errors import ConfigError, RetryableError, RowError
from anchovies.engine.rejected import rejected
from anchovies.sdk import Downloader, Stream, context, sink, source
from anchovies.store.keys import Home

TBLS = {"t": {"columns": {"n": "int"}, "on_bad_row": "reject"}}


def bad(place: Any) -> list[Any]:
    return [r["row"] for r in rejected(place.store, Home("tester", "a"))]


def test_a_row_that_cannot_be_kept_says_where_and_the_way_out(place: Any) -> None:
    class One(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().reject("a;b", "2 fields where 3 are expected", file="x.csv", line=1234, column="n")

    with pytest.raises(RowError) as e:
        place.run(One)
    assert e.value.message == "x.csv, line 1,234: 2 fields where 3 are expected"
    assert "on_bad_row: reject" in (e.value.hint or "")
    assert e.value.where == {"file": "x.csv", "line": 1234, "column": "n"}
    result = place.run(One, tbls=TBLS)
    (found,) = rejected(place.store, Home("tester", "a"))
    assert {k: v for k, v in found.items() if k not in ("at", "slot")} == {
        "tbl": "t", "file": "x.csv", "line": 1234, "column": "n", "reason": "2 fields where 3 are expected", "row": "a;b",
    }  # fmt: skip
    assert result.tables[0].warnings == [
        "t: 1 row could not be kept and went to the rejects, with what is wrong: anchovy rejects -i a -u tester -e t"
    ]


def test_no_row_can_be_rejected_outside_of_a_source(place: Any) -> None:
    class Sink(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}

        @sink("t")
        def s(self, stream: Stream) -> None:
            context().reject({}, "no")

    with pytest.raises(ConfigError, match="outside of a source"):
        place.run(Sink, tbls=TBLS)


class Counter(Downloader):
    """Numbers by a checkpoint, a unit of three; every fifth is bad; ends with an error at `fails`."""

    fails = -1

    @source("t")
    def t(self) -> Any:
        done = context().checkpoint("done")
        for n in range(done.get(0), 30):
            if n == self.fails:
                raise ValueError("broken off")
            if n % 10 == 5:
                context().reject({"n": n}, "by hand")
            else:
                yield {"n": "bad" if n % 10 == 0 else n}
            if n % 3 == 2:
                done.set(n + 1)


@pytest.mark.parametrize("fails", [1, 6, 7, 11, 16, 22])
@pytest.mark.parametrize("commit_bytes", [1, 1 << 20])
def test_each_reject_is_committed_once_with_its_unit(place: Any, fails: int, commit_bytes: int) -> None:
    class Broken(Counter):
        pass

    Broken.fails = fails
    with pytest.raises(ValueError, match="broken off"):
        place.run(Broken, tbls=TBLS, commit_bytes=commit_bytes)
    done = place.checkpoint("done") or 0
    assert len(_rows(place)) + len(bad(place)) == done
    place.run(Counter, tbls=TBLS, commit_bytes=commit_bytes)
    assert sorted(r["n"] for r in _rows(place)) == [n for n in range(30) if n % 5]
    assert bad(place) == [{"n": "bad"}, {"n": 5}, {"n": "bad"}, {"n": 15}, {"n": "bad"}, {"n": 25}]


def _rows(place: Any) -> list[dict[str, Any]]:
    return [r for record in place.reader().records(0, "") for r in place.rows_of(record, "t")]


def test_a_batch_that_begins_again_commits_them_once(place: Any, swap_store: Any) -> None:
    """Another session commits first: everything of the first attempt goes."""
    from anchovies.core.errors import StaleSession
    from anchovies.engine.services import Services

    tries: list[int] = []
    publish = Services.publish

    def stale(self: Services, *args: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise StaleSession("another session was faster")
        return publish(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Services, "publish", stale)
        place.run(Counter, tbls=TBLS)
    assert len(tries) == 2
    assert len(bad(place)) == 6
    assert len(place.named("/$results/rejects/")) == 1


def test_a_source_that_is_asked_again_rejects_its_rows_once(place: Any) -> None:
    tries: list[int] = []

    class Again(Counter):
        @source("t")
        def t(self) -> Any:
            for i, row in enumerate(super().t()):
                if i in (5, 9) and len(tries) < 2:
                    tries.append(i)
                    raise RetryableError("not now")
                yield row

    place.run(Again, tbls=TBLS)
    assert len(tries) == 2
    assert sorted(r["n"] for r in _rows(place)) == [n for n in range(30) if n % 5]
    assert len(bad(place)) == 6


def test_a_limit_of_a_batch_cuts_rejects_as_it_cuts_rows(place: Any) -> None:
    for _ in range(8):
        place.run(Counter, tbls=TBLS, batch_rows=4)
    assert place.checkpoint("done") == 30
    assert sorted(r["n"] for r in _rows(place)) == [n for n in range(30) if n % 5]
    assert len(bad(place)) == 6


def test_what_is_dropped_takes_its_rejects_with_it(place: Any) -> None:
    class Dropping(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().reject({"n": "x"}, "first")
            context().checkpoint("c").set(1)
            yield {"n": "y"}
            context().reject({"n": "z"}, "dropped")
            yield {"n": 2}
            context().discard()
            yield {"n": 3}

    result = place.run(Dropping, tbls=TBLS)
    assert (result.tables[0].rows, result.tables[0].kept, result.tables[0].rejected) == (3, 2, 1)
    assert bad(place) == [{"n": "x"}]
    assert [r["n"] for r in _rows(place)] == [1, 3]


def test_chains_and_tables_that_are_not_kept_have_rejects_too(place: Any) -> None:
    class Chain(Downloader):
        @source("t", store=False)
        def t(self) -> Any:
            yield from ({"n": n} for n in ("1", "x", "3"))

        @source("u")
        @sink("t", streaming=True)
        def u(self, stream: Stream) -> Any:
            for row in stream:
                yield {"n": row["n"], "half": "no" if row["n"] == 3 else 1}

    place.run(Chain, tbls={**TBLS, "u": {"columns": {"half": "int"}, "on_bad_row": "reject"}})
    assert bad(place) == [{"n": "x"}, {"n": 3, "half": "no"}]
    assert [(f.table, f.rows) for r in place.reader().records(0, "") for f in r.change.rejects] == [("t", 1), ("u", 1)]


def test_only_rejects_are_a_commit_as_well(place: Any) -> None:
    class Bad(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": "x"}
            context().checkpoint("c").set(1)

    result = place.run(Bad, tbls=TBLS)
    assert (result.commits, result.tables[0].kept, result.tables[0].rejected) == (1, 0, 1)
    (record,) = place.reader().records(0, "")
    assert record.change.receipts == {"t": {"rows": 1, "kept": 0, "rejected": 1}}


def test_a_source_that_yields_nothing_may_reject_all(place: Any) -> None:
    class Nothing(Downloader):
        @source("t")
        def t(self) -> Any:
            context().reject({"n": "x"}, "bad")
            context().checkpoint("c").set(1)
            context().reject({"n": "y"}, "worse")
            yield from ()

    result = place.run(Nothing, tbls=TBLS)
    assert (result.tables[0].rows, result.tables[0].rejected) == (2, 2)
    assert bad(place) == [{"n": "x"}, {"n": "y"}]
    assert place.checkpoint("c") == 1


def test_the_task_log_counts_them(place: Any) -> None:
    place.run(Counter, tbls=TBLS)
    (key,) = place.named("/$task_logs/")
    assert b'"rejected":6' in place.store.get(key).replace(b" ", b"")


def test_verify_counts_them_and_retention_takes_them(tmp_path: Path, new_place: Callable[[], Any]) -> None:
    from anchovies.core.clock import SystemClock
    from anchovies.core.ids import SystemIds
    from anchovies.engine.verify import Verifier
    from anchovies.store.garbage import Collector
    from anchovies.store.log import Log
    from anchovies.store.record import Note, Writer

    place = new_place()
    place.run(Counter, tbls=TBLS)
    home = Home("tester", "a")
    assert Verifier(place.store, deep=True).verify(home).ok
    clock, ids = SystemClock(), SystemIds()
    who = Writer(host="h", pid=1, session="s", batch=0, version="0")
    log = Log(place.store, home, clock=clock, ids=ids, writer=who)
    log.load()
    log.retire({"t": log.state.slot}, Note(who="me", why="test"))
    from anchovies.core.retry import Retry
    from anchovies.store.history import History

    history = History(place.store, home, Retry(clock, ids))
    Collector(place.store, history, log.state).run()
    assert not place.named("/data/")
    assert not place.named("/rejects/")
    assert bad(place) == []
    assert Verifier(place.store, deep=True).verify(home).ok
