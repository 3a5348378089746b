"""The law: a checkpoint value is committed exactly with the rows yielded before it, whatever fails, wherever it is cut."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchovies.sdk import Downloader, context, on_task, source

# a step: ("row", n) | ("rows", n) | ("arrow", n) | ("set", key) | ("put", key) | ("discard",) | ("fail",)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["row", "rows", "arrow"]), st.integers(1, 5)),
    st.tuples(st.just("set"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("put"), st.sampled_from(["x", "y"])),
    st.tuples(st.just("discard")),
    st.tuples(st.just("fail")),
)


class Broken(Exception):
    pass


@dataclass
class Model:
    """What must be committed after a program: plain Python, no engine."""

    rows: list[int] = field(default_factory=list)
    units: list[list[int]] = field(default_factory=list)
    checkpoints: dict[str, int] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    count: int = 0
    failed: bool = False

    def mark(self) -> None:
        if self.open:
            self.units.append(self.open)
        self.rows += self.open
        self.open = []

    def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("row" | "rows" | "arrow", n):
                self.open += range(self.count, self.count + n)
                self.count += n
            case ("set", key):
                self.mark()
                self.checkpoints[key] = self.count
            case ("put", key):
                self.mark()
                self.ledger[key] = self.count
            case ("discard",):
                self.open = []
            case ("fail",):
                self.failed = True

    def run(self, program: list[tuple[Any, ...]]) -> Model:
        for step in program:
            self.take(step)
            if self.failed:
                return self
        self.mark()
        return self


def operator(program: list[tuple[Any, ...]]) -> type[Downloader]:
    class Program(Downloader):
        @source("t")
        def t(self) -> Any:
            count = 0
            for step in program:
                match step:
                    case ("row", n):
                        for i in range(count, count + n):
                            yield {"n": i}
                        count += n
                    case ("rows", n):
                        yield [{"n": i} for i in range(count, count + n)]
                        count += n
                    case ("arrow", n):
                        yield pa.table({"n": pa.array(range(count, count + n), pa.int64())})
                        count += n
                    case ("set", key):
                        context().checkpoint(key).set(count)
                        assert context().checkpoint(key).get() == count
                    case ("put", key):
                        context().ledger("t").put(key, count)
                        assert context().ledger("t").get(key) == count
                    case ("discard",):
                        context().discard()
                    case ("fail",):
                        raise Broken

    return Program


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    program=st.lists(STEPS, max_size=14),
    commit_bytes=st.sampled_from([1, 60, 1 << 30]),
    commit_seconds=st.sampled_from([0, 1000]),
    buffer=st.sampled_from(["parquet", "jsonl"]),
)
def test_what_is_committed_is_what_the_model_says(
    new_place: Callable[[], Any], program: list[tuple[Any, ...]], commit_bytes: int, commit_seconds: int, buffer: str
) -> None:
    place, model = new_place(), Model().run(program)
    run = {"commit_bytes": commit_bytes, "commit_seconds": commit_seconds, "data_buffer_cls": buffer}
    if model.failed:
        with pytest.raises(Broken):
            place.run(operator(program), **run)
    else:
        assert place.run(operator(program), **run).tables[0].kept == len(model.rows)
    assert [r["n"] for r in place.rows("t")] == model.rows
    assert place.units("t") == model.units
    assert {k: v.value for k, v in place.state().checkpoints.items()} == model.checkpoints
    assert place.state().ledgers.get("t", {}) == model.ledger
    for record, rows_by_then in _prefixes(place):  # in each record alone: no value without its rows
        for value in [v.value for v in record.change.checkpoints.set.values()]:
            assert {n for n in model.rows if n < value} <= rows_by_then
    assert len(place.named("/data/")) == len(place.files("t"))  # nothing lies about that no record names


def _prefixes(place: Any) -> list[tuple[Any, set[int]]]:
    seen: set[int] = set()
    out = []
    for record in place.records():
        seen |= {r["n"] for r in place.rows_of(record, "t")}
        out.append((record, set(seen)))
    return out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(1, 60), step=st.integers(1, 9), failures=st.lists(st.integers(0, 60), max_size=6),
    commit_bytes=st.sampled_from([1, 100, 1 << 30]),
)  # fmt: skip
def test_a_source_that_keeps_failing_brings_each_row_once(
    new_place: Callable[[], Any], total: int, step: int, failures: list[int], commit_bytes: int
) -> None:
    place, left = new_place(), list(failures)

    class Counting(Downloader):
        @source("t")
        def t(self) -> Any:
            cursor = context().checkpoint("n")
            breaks = left.pop() if left else None
            for n in range(cursor.get(0), total):
                if n == breaks:
                    raise Broken
                yield {"n": n}
                if n % step == 0:
                    cursor.set(n + 1)
            cursor.set(total)

    for _ in range(len(failures)):
        try:
            place.run(Counting, commit_bytes=commit_bytes, commit_seconds=1000)
        except Broken:
            continue
    place.run(Counting, commit_bytes=commit_bytes)
    assert [r["n"] for r in place.rows("t")] == list(range(total))


def test_values_set_by_a_failing_task_without_a_mark_before_them_are_committed_with_nothing_else(place: Any) -> None:
    class Setting(Downloader):
        @source("t")
        def t(self) -> Any:
            context().checkpoint("first").set(1)
            yield {"n": 1}
            raise Broken

    with pytest.raises(Broken):
        place.run(Setting)
    assert place.checkpoint("first") == 1
    assert place.rows("t") == []


def test_values_vanish_with_the_flow_that_set_them(place: Any) -> None:
    seen: list[Any] = []

    class Vanish(Downloader):
        @source("bad")
        def bad(self) -> Any:
            yield {"n": 1}
            context().checkpoint("x").set("never")
            yield {"n": "\x00" * 3, "m": object()}

        @source("good")
        def good(self) -> Any:
            seen.append(context().checkpoint("x").get())
            yield {"n": 1}

        @on_task("xclose")
        def after(self) -> None:
            seen.append(context().checkpoint("x").get())

    with pytest.raises(Exception, match="object"):
        place.run(Vanish)
    # row 2 of `bad` cannot be kept, but the unit before it is whole; another table's value is no business of `good`
    assert seen == [None, place.checkpoint("x")]


def test_deleting_a_checkpoint_waits_for_its_rows_as_well(place: Any) -> None:
    class Deleting(Downloader):
        @source("t")
        def t(self) -> Any:
            cursor = context().checkpoint("c")
            if cursor.get() is None:
                cursor.set({"at": 1})
                yield {"n": 1}
                return
            cursor.delete()
            assert cursor.get("gone") == "gone"
            yield {"n": 2}
            raise Broken

    place.run(Deleting)
    assert place.checkpoint("c") == {"at": 1}
    with pytest.raises(Broken):
        place.run(Deleting)
    assert place.checkpoint("c") is None  # it was deleted before row 2 was yielded


def test_another_thread_of_the_source_sets_a_value_only_with_its_rows(place: Any) -> None:
    class Threaded(Downloader):
        fails = True

        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            other = threading.Thread(target=lambda: context().checkpoint("other").set(1))
            other.start()
            other.join()
            yield {"n": 2}
            if self.fails:
                raise Broken

    with pytest.raises(Broken):
        place.run(Threaded)
    assert place.checkpoint("other") is None
    Threaded.fails = False
    place.run(Threaded)
    assert place.checkpoint("other") == 1
    assert len(place.rows("t")) == 2
