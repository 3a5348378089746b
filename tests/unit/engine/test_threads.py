"""`--threads`: several tables at once, over one log; what they share, and what one of them means for the others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

import anchovies
from anchovies.core.clock import SystemClock
from anchovies.core.errors import AnchovyExecutionTimeout
from anchovies.core.ids import SystemIds
from anchovies.engine.outcome import TableFailures
from anchovies.sdk import Downloader, Stream, Tbl, batch, context, on_ack, on_task, session, sink, source
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Note, Writer

WAIT = 30


class Meeting(Downloader):
    """Two tables that wait for one another: alone, neither would come to its end."""

    @source("a")
    def a(self) -> Any:
        self.met.wait(WAIT)
        yield {"n": 1}

    @source("b")
    def b(self) -> Any:
        self.met.wait(WAIT)
        yield {"n": 2}

    met: threading.Barrier


def test_tables_run_at_once_and_are_told_in_their_order(place: Any) -> None:
    Meeting.met = threading.Barrier(2)
    result = place.run(Meeting, threads=2)
    assert [(t.tbl, t.kept) for t in result.tables] == [("a", 1), ("b", 1)]
    assert (place.rows("a"), place.rows("b")) == ([{"n": 1}], [{"n": 2}])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_many_tables_share_one_log_and_each_is_whole(place: Any, threads: int) -> None:
    class Many(Downloader):
        def discover_tbls(self) -> Any:
            return [Tbl(f"t{n}") for n in range(7)]

        @source("t*")
        def rows(self, table: str) -> Any:
            cursor = context().checkpoint(f"{table}.at")
            for n in range(cursor.get(0), 60):
                yield {"n": n}
                cursor.set(n + 1)

    result = place.run(Many, threads=threads, commit_bytes=1)
    assert [t.tbl for t in result.tables] == [f"t{n}" for n in range(7)]
    seen = Counter[str]()
    for record in place.records():  # in the order of the log: a value never comes before its rows
        for f in record.change.files:
            seen[f.table] += f.rows
        for key, value in record.change.checkpoints.set.items():
            assert value.value == seen[key[:2]]
            assert value.tbls == [key[:2]]
    assert seen == dict.fromkeys((f"t{n}" for n in range(7)), 60)
    assert all([r["n"] for r in place.rows(f"t{n}")] == list(range(60)) for n in range(7))


def test_one_key_of_two_tables_is_set_by_who_commits_last_and_never_before_its_rows(place: Any) -> None:
    turn = threading.Event()

    class Shared(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            context().checkpoint("both").set("a")
            yield {"n": 2}
            turn.wait(WAIT)

        @source("b")
        def b(self) -> Any:
            yield {"n": 1}
            context().checkpoint("both").set("b")

        @on_task("tbl", "b")
        def noted(self) -> None: ...

    def heard(event: Any) -> None:
        if event.kind == "task_ended" and event.tbl == "b":
            turn.set()

    place.run(Shared, threads=2, listener=heard)
    found = [r.change.checkpoints.set["both"] for r in place.records() if r.change.checkpoints.set]
    assert [(v.value, v.tbls) for v in found] == [("b", ["b"]), ("a", ["a"])]
    assert place.checkpoint("both") == "a"


def test_the_magics_work_in_every_thread(place: Any) -> None:
    said: dict[str, Any] = {}

    class Asking(Meeting):
        met = threading.Barrier(2)

        @sink("a", streaming=True)
        def taker(self, stream: Stream) -> None:
            said["sink"] = (context().task.tbl, session().user, batch().id)
            list(stream)
            context().checkpoint("taken").set(1)

        @source("c")
        def c(self) -> Any:
            yield {"n": 3}

            def other() -> None:
                said["other"] = (session().user, batch().id, context().checkpoint("mine").get())
                context().checkpoint("mine").set(1)

            mine = threading.Thread(target=other)
            mine.start()
            mine.join()
            said["source"] = context().task.tbl

    place.run(Asking, threads=3)
    assert said == {"sink": ("a", "tester", 1), "other": ("tester", 1, None), "source": "c"}
    assert (place.checkpoint("taken"), place.checkpoint("mine")) == (1, 1)


def test_what_hooks_set_is_not_committed_while_other_tables_are_half_read(place: Any) -> None:
    class Hooked(Downloader):
        fails = True

        @on_task("tbl", "b")
        def before(self) -> None:
            context().checkpoint("hook").set(1)
            self.set_.set()

        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            self.set_.wait(WAIT)
            if self.fails:
                raise ZeroDivisionError

        @source("b")
        def b(self) -> Any:
            yield {"n": 1}

        set_: threading.Event

    Hooked.set_ = threading.Event()
    with pytest.raises(ZeroDivisionError):
        place.run(Hooked, threads=2)
    assert place.checkpoint("hook") is None  # row 1 of `a` came before it, and is gone
    assert place.rows("b") == [{"n": 1}]
    Hooked.fails, Hooked.set_ = False, threading.Event()
    place.run(Hooked, threads=2)
    assert place.checkpoint("hook") == 1


class Beside(Downloader):
    """A table that goes on for as long as it may, beside one that fails."""

    @source("fails")
    def fails(self) -> Any:
        yield {"n": 1}
        self.on_its_way.wait(WAIT)
        raise ZeroDivisionError("in fails")

    @source("goes_on")
    def goes_on(self) -> Any:
        for n in range(10_000):
            yield [{"n": n}] * 100
            self.on_its_way.set()
            context().checkpoint("n").set(n + 1)
            if self.stops_at == n:
                return
            time.sleep(0.001)

    stops_at: int | None = None
    on_its_way: threading.Event


@pytest.mark.parametrize("policy", ["continue", "raise"])
def test_a_failed_table_stops_the_others_only_where_the_policy_says_so(place: Any, policy: str) -> None:
    Beside.on_its_way = threading.Event()
    Beside.stops_at = 300 if policy == "continue" else None
    events: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        place.run(Beside, threads=2, batch_policy=policy, listener=events.append)
    ended = {e.tbl: e.data for e in events if e.kind == "task_ended"}
    assert ended["fails"]["status"] == "ERR"
    done = place.checkpoint("n")
    if policy == "continue":
        assert ended["goes_on"]["status"] == "OK"
        assert done == 301
    else:
        assert ended["goes_on"]["status"] == "ERR"
        assert "because fails ended the batch" in ended["goes_on"]["err_msg"]
        assert 0 < done < 10_000
    assert len(place.rows("goes_on")) == 100 * done  # whole units stay


def test_a_table_that_does_not_look_is_stopped_as_well(place: Any) -> None:
    class Deaf(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            self.on_its_way.wait(WAIT)
            raise ZeroDivisionError("in a")

        @source("b")
        def b(self) -> Any:
            yield {"n": 1}
            self.on_its_way.set()
            while True:
                time.sleep(0.01)

        on_its_way = threading.Event()

    events: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        place.run(Deaf, threads=2, batch_policy="raise", listener=events.append)
    said = {e.tbl: e.data["err_msg"] for e in events if e.kind == "task_ended"}
    assert "because a ended the batch" in said["b"]


def test_several_failures_are_all_told(place: Any) -> None:
    class Both(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            raise KeyError("a")

        @source("b")
        def b(self) -> Any:
            yield {"n": 1}
            raise KeyError("b")

    with pytest.raises(TableFailures, match="2 tables failed"):
        place.run(Both, threads=2)


def test_a_timeout_reaches_every_thread(place: Any) -> None:
    ended: list[str] = []

    class Deaf(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            try:
                while True:
                    time.sleep(0.01)
            finally:
                ended.append("a")

        @source("b")
        def b(self) -> Any:
            try:
                while True:
                    pass
            finally:
                ended.append("b")
            yield {"n": 1}

        @sink("a", streaming=True)
        def deaf(self, stream: Stream) -> None:
            try:
                while True:
                    time.sleep(0.01)
            finally:
                ended.append("sink")

    with pytest.raises(AnchovyExecutionTimeout):
        place.run(Deaf, threads=2, execution_timeout=0.3, grace=5)
    assert sorted(ended) == ["a", "b", "sink"]
    assert place.records() == []


def test_acknowledgements_of_tables_at_once_are_handed_out_once(place: Any) -> None:
    told: list[str] = []

    class Acking(Downloader):
        def discover_tbls(self) -> Any:
            return [Tbl(f"t{n}") for n in range(4)]

        @source()
        def rows(self, table: str) -> Any:
            for n in range(10):
                yield {"n": n}
                context().ack(f"{table}/{n}")
                context().checkpoint(table).set(n)

        @on_ack
        def done(self, tokens: list[str]) -> None:
            time.sleep(0.002)
            told.extend(tokens)

    place.run(Acking, threads=4, commit_bytes=1)
    assert Counter(told) == Counter(f"t{n}/{i}" for n in range(4) for i in range(10))
    place.run(Acking, threads=4, commit_bytes=1)
    assert len(told) == 80
    assert place.state().ack_pending == []


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_an_uploader_loads_several_tables_at_once_into_one_database(kind: str, tmp_path: Any) -> None:
    from anchovies.plugins.sql import Uploader

    class Feed(Downloader):
        def discover_tbls(self) -> Any:
            return [Tbl(f"t{n}", unique_by=("n",)) for n in range(4)]

        @source()
        def rows(self, table: str) -> Any:
            start = context().checkpoint(table).get(0)
            for n in range(start, start + 50):
                yield {"n": n, "of": table}
                context().checkpoint(table).set(n + 1)

    where: dict[str, Any] = {"datastore": str(tmp_path / "fish"), "threads": 4, "user": "tester"}
    db = {"cnxns": {"db": {"url": f"{kind}:///{tmp_path / 'x.db'}"}}}
    for turn in (1, 2):
        anchovies.run(Feed, id="feed", commit_bytes=1, **where)
        result = anchovies.run(Uploader, id="up", upstream=["feed"], **where, **db)
        assert [(t.tbl, t.counts.get("inserted")) for t in result.tables] == [(f"t{n}", 50) for n in range(4)], turn
    assert anchovies.run(Uploader, id="up", upstream=["feed"], **where, **db).commits == 0


def test_an_edit_of_what_one_table_has_read_begins_the_batch_again_whoever_commits_next(place: Any) -> None:
    """`b` commits after the edit, and reads on in the log; `a`, which has read the value before, must not go on from it."""
    read, edited = threading.Event(), threading.Event()

    class Two(Downloader):
        tries: Counter[str] = Counter()

        @source("a")
        def a(self) -> Any:
            self.tries["a"] += 1
            start = context().checkpoint("at").get(0)
            yield {"n": start}
            read.set()
            while not edited.wait(0.02):
                batch().check()
            context().checkpoint("at").set(start + 1)

        @source("b")
        def b(self) -> Any:
            self.tries["b"] += 1
            read.wait(WAIT)
            if not edited.is_set():
                log = Log(
                    place.store, Home("tester", "a"), clock=SystemClock(), ids=SystemIds(), writer=Writer("h", 1, "s", 0, "0")
                )
                log.load()
                edit = Checkpoints(set={"at": CheckpointValue(value=50)})
                log.edit(Change(checkpoints=edit, note=Note(who="me", why="test")))
            yield {"n": 1}
            context().checkpoint("b").set(1)

    def heard(event: Any) -> None:
        if event.kind == "warning" and "Beginning again" in event.data["message"]:
            edited.set()
        if event.kind == "committed" and event.tbl == "b":
            edited.set()

    place.run(Empty)  # so that there is a log
    place.run(Two, threads=2, listener=heard)
    assert place.checkpoint("at") == 51
    assert place.rows("a") == [{"n": 50}]
    assert place.rows("b") == [{"n": 1}]
    assert Two.tries == {"a": 2, "b": 2}


class Empty(Downloader):
    @source("e")
    def e(self) -> Any:
        yield {"n": 1}
