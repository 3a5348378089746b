"""Several workers of one anchovy: what falls to whom, what they commit beside each other, and another number that takes over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import pytest

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError, Fenced
from anchovies.core.settings import resolve
from anchovies.core.tblconfig import tbl_from_json
from anchovies.engine import look
from anchovies.engine.splits import named_splits
from anchovies.sdk import Downloader, SessionResult, Tbl, Uploader, Worker, context, on_task, sink, source
from anchovies.store import cursors
from anchovies.store.keys import Home

MANY = [f"s{i}" for i in range(16)]


class Ranges(Downloader):
    """16 splits of 3 numbers; what each worker was given is written down."""

    upto = 3
    given: list[tuple[Worker, Any]] = []
    during: Callable[[str], None] = staticmethod(lambda split: None)

    @source("t", splits=MANY)
    def t(self, table: str, split: str, worker: Worker) -> Any:
        self.given.append((worker, split))
        cursor = context().checkpoint(f"{table}:{split}")
        for n in range(cursor.get(0), self.upto):
            yield {"split": split, "n": n}
            self.during(split)
            cursor.set(n + 1)


@pytest.fixture
def ranges() -> type[Ranges]:
    return type("Ranges", (Ranges,), {"given": []})


def shared(place: Any, operator: type, of: int, **settings: Any) -> list[SessionResult]:
    """A run of each worker, one after the other."""
    return [place.run(operator, workers=of, worker_num=n, **settings) for n in range(of)]


def numbers(place: Any) -> Counter[tuple[str, int]]:
    return Counter((r["split"], r["n"]) for r in place.rows("t"))


def whole(upto: int) -> Counter[tuple[str, int]]:
    return Counter((s, n) for s in MANY for n in range(upto))


def test_one_worker_reads_every_split_in_order(place: Any, ranges: Any) -> None:
    place.run(ranges)
    assert ranges.given == [(Worker(0, 1), s) for s in MANY]
    assert [r["split"] for r in place.rows("t")] == [s for s in MANY for _ in range(3)]


def test_several_workers_come_to_what_one_comes_to(place: Any, new_place: Any, ranges: Any) -> None:
    alone = new_place()
    alone.run(ranges)
    ranges.given.clear()
    shared(place, ranges, 4)
    assert sorted(s for _, s in ranges.given) == sorted(MANY), "each split was read by one worker"
    assert {w.num for w, _ in ranges.given} == {0, 1, 2, 3} and {w.of for w, _ in ranges.given} == {4}
    assert numbers(place) == numbers(alone) == whole(3)
    assert place.state().checkpoints == alone.state().checkpoints
    ranges.upto = 5
    shared(place, ranges, 4)
    assert numbers(place) == whole(5)
    assert [r.workers for r in place.records()] == [4] * len(place.records())


def test_they_commit_beside_each_other(place: Any, ranges: Any) -> None:
    """Another worker's whole run falls between two rows of ours."""
    others = iter([1, 2, 3])

    def during(split: str) -> None:
        if Worker(0, 4).owns(f"t:{split}") and (n := next(others, None)) is not None:
            assert place.run(ranges, workers=4, worker_num=n).exit_code == 0

    place.run(type("First", (Ranges,), {"upto": 1, "splits": []}), workers=4, worker_num=0)  # the first record of all
    ranges.during = staticmethod(during)
    result = place.run(ranges, workers=4, worker_num=0)
    assert not result.warnings and numbers(place) == whole(3)
    assert [r.lane for r in place.records()] == [0, 1, 2, 3, 0]
    assert {k.rpartition("/")[2] for k in place.named("/lease-")} == {"lease-1.json", "lease-2.json", "lease-3.json"}


def test_a_checkpoint_that_a_sibling_moved_throws_the_batch_away(place: Any) -> None:
    class Careless(Downloader):
        turns = 0

        @source("t", splits=MANY)
        def t(self, split: str, worker: Worker) -> Any:
            cursor = context().checkpoint("of all")
            seen = cursor.get(0)
            if worker.num == 0 and not self.turns:
                type(self).turns += 1
                place.run(Careless, workers=2, worker_num=1)
            yield {"split": split, "n": seen}
            cursor.set(seen + 1)

    place.run(Careless, workers=2, worker_num=0)
    result = place.run(Careless, workers=2, worker_num=0)
    Careless.turns = 0
    result = place.run(Careless, workers=2, worker_num=0)
    assert any("changed a checkpoint that the running batch depends on" in w for w in result.warnings)
    assert [r["n"] for r in place.rows("t")] == list(range(len(place.rows("t"))))


@pytest.mark.parametrize("counts", [False, True])
def test_entries_of_a_ledger_are_shared_one_by_one(place: Any, counts: bool) -> None:
    """Who only looks at its own entries rests on no others; who counts them rests on all."""

    class Files(Downloader):
        names = MANY
        inner: Any = None

        @source("t", splits=lambda self: self.names)
        def t(self, table: str, split: str) -> Any:
            seen = context().ledger(table)
            if counts:
                len(seen)
            if self.inner is not None:
                inner, Files.inner = self.inner, None
                inner()
            if split not in seen:
                yield {"split": split}
                seen.put(split, 1)

    for n in range(2):
        place.run(Files, workers=2, worker_num=n)
    Files.names = [*MANY, *(f"more{i}" for i in range(16))]
    Files.inner = lambda self: place.run(Files, workers=2, worker_num=1)
    result = place.run(Files, workers=2, worker_num=0)
    assert any("changed a checkpoint that the running batch depends on" in w for w in result.warnings) == counts
    assert Counter(r["split"] for r in place.rows("t")) == Counter(Files.names)


# --- what there is to share out ---


class Named(Downloader):
    seen: list[Any] = []

    def days(self, table: str) -> Iterable[date]:
        return (date(2026, 11, d) for d in (1, 2, 3))

    @source("a", splits="days")
    def a(self, split: date) -> Any:
        self.seen.append(split)
        return ()

    @source("b", splits=days)
    def b(self, split: date) -> Any:
        self.seen.append(split)
        return ()

    @source("c", splits=lambda worker: [[0, 9], [10, worker.of]])
    def c(self, split: list[int]) -> Any:
        self.seen.append(split)
        return ()


def test_a_method_or_a_function_gives_the_splits(place: Any) -> None:
    days = [date(2026, 11, d) for d in (1, 2, 3)]
    for tbl, want in (("a", days), ("b", days), ("c", [[0, 9], [10, 1]])):
        Named.seen.clear()
        place.run(Named, enabled=[tbl])
        assert Named.seen == want


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["x", "y", "x"], "two splits x"),
        ([object()], "a split is plain data"),
        ("nothing", "Wrong has no method of that name"),
        (lambda: "text", "splits are a list of values, got 'text'"),
        (lambda: None, "splits are a list of values"),
        (lambda: {"a": 1}, "splits are a list of values"),
        (lambda tables: [], "wants 'tables', which nobody hands in"),
    ],
)
def test_splits_that_cannot_be(place: Any, splits: Any, message: str) -> None:
    class Wrong(Downloader):
        @source("t", splits=splits)
        def t(self, split: Any) -> Any:
            yield {"n": 1}

    with pytest.raises(ConfigError, match=message):
        place.run(Wrong)
    assert place.records() == []


def test_there_is_an_end_to_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.splits.MOST", 3)
    assert [name for name, _ in named_splits("t", [1, {"b": 2, "a": date(2026, 1, 2)}, "x"])] == [
        "1", '{"a":{"$date":"2026-01-02"},"b":2}', "x"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="more than 3 splits"):
        named_splits("t", range(4))


def test_a_source_without_splits_is_handed_none(place: Any) -> None:
    class Wrong(Downloader):
        @source("t")
        def t(self, split: Any) -> Any:
            return ()

    with pytest.raises(ConfigError, match="wants 'split', which nobody hands in"):
        place.run(Wrong)


def test_whole_tables_fall_to_one_worker_each(place: Any) -> None:
    class Many(Downloader):
        read: list[tuple[int, str]] = []

        @source(*(f"t{i}" for i in range(12)))
        def any(self, table: str, worker: Worker) -> Any:
            self.read.append((worker.num, table))
            yield {"n": 1}

        @source("u")
        @sink("t3", streaming=True)
        def u(self, stream: Any, worker: Worker) -> Any:
            assert worker.owns("t3"), "what is made of a table goes with it"
            yield from stream

    results = shared(place, Many, 3)
    assert sorted(t for _, t in Many.read) == sorted(f"t{i}" for i in range(12))
    assert {n for n, _ in Many.read} == {0, 1, 2}
    assert all(Worker(n, 3).owns(t) for n, t in Many.read)
    assert sum(len(r.tables) for r in results) == 13
    state = place.state()
    assert all(state.totals[t].complete for t in ("t0", "t3", "u")), "a whole table was read whole"


def test_what_falls_to_whom_is_even_and_stays_so() -> None:
    names = [f"orders:{i}" for i in range(4000)]
    counts = [sum(Worker(n, 4).owns(name) for name in names) for n in range(4)]
    assert sum(counts) == 4000 and min(counts) > 900
    assert [n for n in range(4) if Worker(n, 4).owns("orders:7")] == [1], "on any machine, in any version"
    assert all(Worker().owns(name) for name in names)


# --- tables that have to be whole ---


def test_shared_splits_complete_nothing(place: Any, ranges: Any) -> None:
    shared(place, ranges, 2)
    assert place.state().totals["t"].complete == 0
    place.run(ranges)
    ranges.upto = 4
    place.run(ranges)
    assert place.state().totals["t"].complete


@pytest.mark.parametrize(
    ("tbl", "what"), [({"write": "replace"}, "write: replace"), ({"snapshot": True, "unique_by": ("n",)}, "snapshot")]
)
def test_a_table_that_has_to_be_whole_shares_no_splits(place: Any, ranges: Any, tbl: dict[str, Any], what: str) -> None:
    ranges.discover_tbls = lambda self: [Tbl("t", **tbl)]
    with pytest.raises(ConfigError, match=f"{what}.*2 workers share its splits") as e:
        place.run(ranges, workers=2, worker_num=1)
    assert "one worker" in str(e.value.hint) and place.records() == []


def test_columns_that_different_workers_found_are_all_told(place: Any) -> None:
    class Wide(Downloader):
        inside = False

        @source("t", splits=MANY)
        def t(self, split: str, worker: Worker) -> Any:
            yield {"n": 1, f"c{worker.num}": split}
            if worker.num == 0 and not self.inside:
                type(self).inside = True
                place.run(Wide, workers=3, worker_num=1)
                place.run(Wide, workers=3, worker_num=2)

    place.run(Wide, workers=3, worker_num=0)
    assert set(tbl_from_json(place.state().tables["t"]).types) == {"n", "c0", "c1", "c2"}


# --- another number of them ---


def test_another_number_takes_over(place: Any, ranges: Any) -> None:
    for upto, of in ((1, 4), (2, 3), (3, 1), (4, 2)):
        ranges.upto = upto
        results = shared(place, ranges, of)
        assert numbers(place) == whole(upto)
        again = [[w for w in r.warnings if f"is shared by {of} worker" in w] for r in results]
        assert len(again[0]) == (upto > 1) and not any(again[1:])
    opens = [(r.workers, bool(r.change.files)) for r in place.records() if r.kind == "open"]
    assert [w for w, rows in opens if not rows] == [3, 1, 2], "a record of its own each time"


def test_old_workers_that_still_run_are_fenced(place: Any, ranges: Any) -> None:
    once = iter([True])

    def during(split: str) -> None:
        if Worker(3, 4).owns(f"t:{split}") and next(once, False):
            assert [r.exit_code for r in shared(place, ranges, 3)] == [0, 0, 0]

    shared(place, type("First", (ranges,), {"upto": 1}), 4)
    ranges.during = staticmethod(during)
    with pytest.raises(Fenced, match="shared by 3 workers now; this session is one of 4") as e:
        place.run(ranges, workers=4, worker_num=3)
    assert "--workers 3" in str(e.value.hint) and numbers(place) == whole(3)


def test_what_hooks_saw_before_is_seen_again(place: Any) -> None:
    class Hooked(Downloader):
        seen: list[Any] = []

        @on_task("xopen")
        def look(self, worker: Worker) -> None:
            self.seen.append((worker.of, context().checkpoint("n").get(0)))

        @source("t", splits=["x", "y"])
        def t(self) -> Any:
            yield {"n": 1}
            context().checkpoint("n").set(1)

    place.run(Hooked)
    place.run(Hooked, workers=2, worker_num=0)
    assert Hooked.seen == [(1, 0), (2, 1), (2, 1)]


def test_a_worker_that_has_nothing_writes_nothing(place: Any, ranges: Any) -> None:
    class One(Downloader):
        @source("t", splits=["only"])
        def t(self) -> Any:
            yield {"n": 1}

    idle = next(n for n in range(2) if not Worker(n, 2).owns("t:only"))
    result = place.run(One, workers=2, worker_num=idle)
    assert (result.commits, place.records(), [t.rows for t in result.tables]) == (0, [], [0])


# --- uploaders ---


def test_an_uploaders_tables_are_shared_out(place: Any) -> None:
    tables = [f"t{i}" for i in range(12)]

    class Many(Downloader):
        @source(*tables)
        def any(self, table: str) -> Any:
            cursor = context().checkpoint(table)
            yield {"n": cursor.get(0)}
            cursor.set(cursor.get(0) + 1)

    class Up(Uploader):
        got: list[tuple[int, str, int]] = []

        @sink()
        def take(self, stream: Any, table: str, worker: Worker) -> None:
            self.got += [(worker.num, table, row["n"]) for row in stream]

    for turn in range(2):
        place.run(Many)
        for n in range(3):
            place.run(Up, id="up", upstream=["a"], workers=3, worker_num=n)
        assert sorted((t, n) for _, t, n in Up.got) == sorted((t, n) for t in tables for n in range(turn + 1))
        assert {n for n, _, _ in Up.got} == {0, 1, 2}
    found = cursors.read(place.store, Home("tester", "a"), "tester/up")
    assert found is not None and {s.tbl: s.slot for s in found.seen} == {t: place.state().totals[t].slot for t in tables}
    place.run(Many)
    for n in range(2):
        place.run(Up, id="up", upstream=["a"], workers=2, worker_num=n)
    assert sorted((t, n) for _, t, n in Up.got) == sorted((t, n) for t in tables for n in range(3)), "two took over from three"


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 4, "worker_num": 4}, "no worker 4 of 4"),
        ({"worker_num": 1}, "no worker 1 of 1"),
        ({"workers": 0}, "no worker 0 of 0"),
        ({"workers": 2, "full_refresh": True}, "forget what the other 1 workers have just read"),
    ],
)
def test_settings_that_cannot_be(place: Any, ranges: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as e:
        place.run(ranges, **settings)
    assert e.value.hint


# --- beside other things ---


def looked(place: Any, operator: Any, **settings: Any) -> tuple[type, Any, Config, dict[str, str]]:
    return operator, resolve({"id": "a", "user": "tester", "datastore": place.url, **settings}, {}, Config()), Config(), {}


def test_a_plan_says_what_falls_to_whom(place: Any, ranges: Any) -> None:
    class Two(Named, ranges):  # type: ignore[misc, valid-type]
        @source("whole")
        def whole(self) -> Any:
            return ()

    said = [dict(look.plan(*looked(place, Two, workers=2, worker_num=n))) for n in range(2)]
    mine = [sum(Worker(n, 2).owns(f"t:{s}") for s in MANY) for n in range(2)]
    assert [s["t"][-1] for s in said] == [f"16 splits, {m} of them for worker {n} of 2" for n, m in enumerate(mine)]
    assert [s["whole"][-1] == "another of the 2 workers reads it" for s in said].count(True) == 1
    alone = dict(look.plan(*looked(place, Two)))
    assert (alone["a"][-1], alone["t"][-1]) == ("3 splits", "16 splits") and "reads it" not in alone["whole"][-1]


def test_a_preview_reads_no_more_splits_than_it_shows(place: Any, ranges: Any) -> None:
    ((_, rows),) = look.preview(*looked(place, ranges), rows=4)
    assert [s for _, s in ranges.given] == ["s0", "s1"] and rows.num_rows == 4


def test_a_batch_with_a_limit_goes_on_in_the_next_one(place: Any, ranges: Any) -> None:
    for _ in range(60):
        place.run(ranges, batch_rows=5)
        if numbers(place) == whole(3):
            break
    assert numbers(place) == whole(3) and len(ranges.given) > 3 * 16


def test_an_idle_service_of_the_old_number_ends(place: Any, ranges: Any) -> None:
    class Service(ranges):  # type: ignore[misc, valid-type]
        rounds = 0

        @on_task("xclose")
        def others(self) -> None:
            type(self).rounds += 1
            if self.rounds == 2:
                self.upto = 3
                shared(place, ranges, 3)

    with pytest.raises(Fenced, match="shared by 3 workers now; this session is one of 2"):
        place.run(Service, workers=2, worker_num=0, service=True, interval=0)
    shared(place, ranges, 3)  # the worker 0 of before had stepped aside: the service had the lease
    assert Service.rounds == 2 and numbers(place) == whole(3)
