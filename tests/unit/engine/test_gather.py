"""Gather: every row once, in order, and each mark exactly after the rows that were yielded before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import FatalError, RowError
from anchovies.core.types import parse_type
from anchovies.engine.gather import Piece, gather
from anchovies.engine.pending import Pending


class StandingClock:
    """Time passes only when the test says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Foreign:
    """Arrow data of another library."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class ForeignArray:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self._batch.__arrow_c_array__(requested_schema)


class Actions(Pending):
    """What a source of these tests sets: any object."""

    def append(self, action: object) -> None:
        self.put(action)  # type: ignore[arg-type]


Source = Callable[[Actions], Iterator[object]]


def run(source: Source, **settings: Any) -> list[Piece]:
    """The pieces of a source that appends what it sets to the actions it is handed."""
    actions = Actions()
    settings.setdefault("clock", StandingClock())
    return list(gather(source(actions), actions, **settings))


def flat(pieces: list[Piece]) -> list[object]:
    """Rows (values of `n`) and actions as one sequence, in the order in which they are due."""
    out: list[object] = []
    for piece in pieces:
        rows: list[object] = [] if piece.batch is None else piece.batch.column("n").to_pylist()
        assert piece.rows == len(rows) and (rows or piece.marks)
        assert [k for k, _ in piece.marks] == sorted({k for k, _ in piece.marks})
        at = 0
        for k, actions in piece.marks:
            assert 0 <= k <= len(rows) and actions
            out += rows[at:k] + list(actions)
            at = k
        out += rows[at:]
    return out


def as_item(shape: str, numbers: list[int]) -> object:
    table = pa.table({"n": pa.array(numbers, pa.int64())})
    batch = pa.record_batch([pa.array(numbers, pa.int64())], names=["n"])
    return {
        "list": [{"n": n} for n in numbers],
        "table": table,
        "chunks": pa.concat_tables([table, table.slice(0, 0)]),
        "batch": batch,
        "reader": table.to_reader(2),
        "stream": Foreign(table),
        "array": ForeignArray(batch),
    }[shape]


steps = st.one_of(
    st.just(("row", 1)),
    st.just(("set", 0)),
    st.tuples(st.sampled_from(["list", "table", "chunks", "batch", "reader", "stream", "array"]), st.integers(0, 12)),
)


@given(st.lists(steps, max_size=30), st.integers(1, 9), st.sampled_from([1, 40, 10_000]))
def test_the_law_of_marks(plan: list[tuple[str, int]], max_rows: int, max_bytes: int) -> None:
    expected: list[object] = []

    def source(actions: Actions) -> Iterator[object]:
        n = 0
        for shape, count in plan:
            if shape == "set":
                action = f"after {n}"
                actions.append(action)
                expected.append(action)
                continue
            numbers = list(range(n, n + count))
            n += count
            expected.extend(numbers)
            yield {"n": numbers[0]} if shape == "row" else as_item(shape, numbers)

    pieces = run(source, max_rows=max_rows, max_bytes=max_bytes)
    assert flat(pieces) == expected
    if max_bytes == 10_000 and not any(shape in ("table", "chunks", "batch", "reader", "stream", "array") for shape, _ in plan):
        assert all(p.rows <= max_rows for p in pieces)


def kept(pieces: list[Piece]) -> list[object]:
    """The rows and marks of pieces that may be cut in any places, without the open rows at the end of a failed source."""
    found = flat(pieces)
    last = max((i for i, x in enumerate(found) if not isinstance(x, str)), default=-1)
    return found[: last + 1]


cells = st.sampled_from(["a", "", "é", "7"])
odd = st.sampled_from([None, 7, "\n", "\x1f"])


@given(
    st.lists(st.tuples(cells, st.one_of(cells, cells, cells, odd), st.booleans()), max_size=40),
    st.integers(1, 20),
    st.integers(1, 4),
    st.none() | st.integers(0, 40),
)
def test_rows_of_texts_are_put_away_and_still_the_same(
    plan: list[tuple[str, object, bool]], max_rows: int, block: int, fails_at: int | None
) -> None:
    """The pieces are those of the plain road: rows, types and marks; also the whole units before a failure."""

    def source(actions: Actions) -> Iterator[object]:
        for i, (n, other, mark) in enumerate(plan):
            if i == fails_at:
                raise OSError("the source fails")
            yield {"n": n, "other": other}
            if mark:
                actions.append(i)

    def pieces(block: int, dicts: int) -> tuple[list[Piece], bool]:
        actions = Actions()
        out: list[Piece] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("anchovies.engine.gather._BLOCK", block)
            patch.setattr("anchovies.engine.gather._DICTS", dicts)
            try:
                out.extend(gather(source(actions), actions, max_rows=max_rows))
            except OSError:
                return out, True
        return out, False

    assert pieces(block, 1_000) == pieces(1_000, 1_000)
    beside, plain = pieces(block, 2), pieces(1_000, 1_000)
    assert kept(beside[0]) == kept(plain[0]) and beside[1] == plain[1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows are made beside the source, too."""
    monkeypatch.setattr("anchovies.engine.gather._BLOCK", 2)
    monkeypatch.setattr("anchovies.engine.gather._DICTS", 4)


@pytest.mark.usefixtures("small")
def test_a_piece_that_is_made_beside_the_source_waits_no_longer_than_others() -> None:
    clock = StandingClock()
    seen: list[int] = []

    def source() -> Iterator[object]:
        for n in range(5):
            clock.at += 0.1
            yield {"n": str(n), "m": ""}
        assert seen == []  # the piece of the first four is full
        clock.at += 0.4
        yield {"n": "5", "m": ""}
        assert seen == [4, 2]
        for n in range(6, 10):
            clock.at += 0.2
            yield {"n": str(n), "m": ""}
        assert seen == [4, 2, 4]  # a slow source: nothing is gained by a delay

    for piece in gather(source(), Pending(), max_rows=4, clock=clock):
        seen.append(piece.rows)
    assert seen == [4, 2, 4]


@pytest.mark.usefixtures("small")
def test_nothing_passes_after_a_piece_that_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("anchovies.core.textrows._columns", fail)
    actions = Actions()

    def source() -> Iterator[object]:
        for n in range(12):
            yield {"n": str(n), "m": ""}
            actions.append("mark")

    pieces = gather(source(), actions, max_rows=4, clock=StandingClock())
    with pytest.raises(MemoryError):
        next(pieces)
    assert list(pieces) == []


def test_data_in_arrow_come_after_the_texts_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.gather._BLOCK", 2)
    table = pa.table({"n": ["2", "3"], "m": ["x", "x"]})
    pieces = run(lambda _: iter([{"n": "0", "m": "x"}, {"n": "1", "m": "x"}, table]))
    assert [p.batch.column("n").to_pylist() for p in pieces if p.batch is not None] == [["0", "1"], ["2", "3"]]


def test_a_checkpoint_after_every_row_makes_no_tiny_batches() -> None:
    def source(actions: Actions) -> Iterator[object]:
        for n in range(5000):
            yield {"n": n}
            actions.append(f"set {n}")

    pieces = run(source, max_rows=1000)
    assert [p.rows for p in pieces] == [1000] * 5 + [0]
    assert flat(pieces) == [x for n in range(5000) for x in (n, f"set {n}")]


def test_actions_without_any_row_are_passed_on() -> None:
    def source(actions: Actions) -> Iterator[object]:
        actions.append("a")
        yield from ()

    assert run(source) == [Piece(None, ((0, ("a",)),))]
    assert run(lambda actions: iter(())) == []


def test_slow_rows_and_their_marks_are_not_held_back() -> None:
    clock = StandingClock()

    def source(actions: Actions) -> Iterator[object]:
        for n in range(6):
            yield {"n": n}
            actions.append(f"set {n}")
            clock.sleep(0.4)

    pieces = run(source, clock=clock, max_seconds=1.0)
    assert [p.rows for p in pieces] == [4, 2]
    assert flat(pieces) == [x for n in range(6) for x in (n, f"set {n}")]


def test_large_rows_make_small_batches() -> None:
    pieces = run(lambda actions: ({"n": n, "text": "x" * 1000} for n in range(1000)), max_bytes=100_000)
    assert all(p.rows <= 130 for p in pieces) and flat(pieces) == list(range(1000))


def test_a_giant_row_after_small_ones() -> None:
    pieces = run(lambda actions: ({"n": n, "t": ["y" * 10_000_000] if n == 3 else []} for n in range(5)), max_bytes=1 << 20)
    assert [p.rows for p in pieces] == [4, 1]


def test_large_arrow_data_are_cut() -> None:
    table = pa.table({"n": pa.array(range(100_000), pa.int32())})
    pieces = run(lambda actions: iter([table]), max_bytes=40_000)
    assert all(p.rows <= 10_001 for p in pieces) and flat(pieces) == list(range(100_000))
    assert all(p.batch is not None and p.batch.schema.field("n").type == pa.int64() for p in pieces)


def test_declared_types_hold_for_rows_and_for_arrow() -> None:
    types = {"n": parse_type("int"), "d": parse_type("decimal(5,2)")}
    items = [{"n": "1", "d": "1.5"}, pa.table({"d": [2, 3], "new": ["x", "y"], "n": pa.array([2, 3], pa.int8())})]
    first, second = run(lambda actions: iter(items), types=types)
    assert first.batch is not None and second.batch is not None
    assert [str(v) for v in first.batch.column("d").to_pylist()] == ["1.50"]
    assert second.batch.schema.names == ["n", "d", "new"]
    assert [str(v) for v in second.batch.column("d").to_pylist()] == ["2.00", "3.00"]


def test_a_bad_value_is_counted_from_the_first_row_of_the_source() -> None:
    items = [[{"n": 1}] * 7, pa.table({"n": [1, 2]}), {"n": 1}, {"n": "x"}]
    with pytest.raises(RowError, match="'n', row 11: 'x'"):
        run(lambda actions: iter(items), types={"n": parse_type("int")}, max_rows=3)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "yielded None"),
        ("abc", r"a str \('abc'\)"),
        (("a", 1), "a tuple"),
        (5, "a int"),
        ([{"n": 1}, ["n"]], "a list whose item 1 is a list"),
        ([None], "a list whose item 0 is None"),
        (pa.array([1, 2]), "holds no table"),
        ((row for row in []), "a generator"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_what_is_no_row_is_refused(item: object, says: str) -> None:
    with pytest.raises(FatalError, match=says) as e:
        run(lambda actions: iter([{"n": 1}, item]))
    assert e.value.hint and "dict" in e.value.hint


def test_an_error_of_the_source_goes_through() -> None:
    def source(actions: Actions) -> Iterator[object]:
        yield {"n": 1}
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run(source)


def test_what_another_thread_sets_comes_after_all_rows_that_were_yielded_by_then() -> None:
    actions, yielded = Actions(), 0
    over = threading.Event()

    def meddle() -> None:
        while not over.wait(0.0005):
            actions.append(yielded)

    def source() -> Iterator[object]:
        nonlocal yielded
        for n in range(20_000):
            yield [{"n": n}] if n % 997 == 0 else {"n": n}
            yielded = n + 1
            if n % 1000 == 0:
                over.wait(0.002)  # the other one gets its turn, however fast this is

    other = threading.Thread(target=meddle)
    other.start()
    try:
        pieces = list(gather(source(), actions, max_rows=700))
    finally:
        over.set()
        other.join()
    at = 0
    for piece in pieces:
        assert all(set_after <= at + k for k, said in piece.marks for set_after in said)
        at += piece.rows
    assert at == 20_000 and any(p.marks for p in pieces)


def test_a_source_is_asked_for_many_rows_a_turn_and_for_one_after_it_was_slow() -> None:
    actions, asked = Actions(), []
    numbers = iter(range(100))

    def turn(seconds: float) -> None:
        before = len(actions.rows)
        assert actions.pull(numbers, 64)
        asked.append(len(actions.rows) - before)
        actions.took(asked[-1], seconds)

    for seconds in (0.0, 0.0, 0.0, 0.5, 0.0, 0.0):
        turn(seconds)
    assert asked == [1, 2, 4, 8, 1, 2]
    assert not actions.pull(iter(()), 64)
