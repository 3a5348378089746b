"""Hop 2, gather: whatever a source yields → bounded record batches, and the marks that are due inside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, takewhile
from operator import countOf, itemgetter
from typing import Any

import pyarrow as pa

from anchovies.core.arrow import conform, types_of
from anchovies.core.clock import Clock, SystemClock
from anchovies.core.errors import FatalError, RowError
from anchovies.core.schema import Row, rows_to_batch
from anchovies.core.textrows import TextRows
from anchovies.core.types import ColType
from anchovies.core.values import short
from anchovies.engine.actions import Action, Rejected
from anchovies.engine.care import Care, is_mark, with_rejects
from anchovies.engine.limits import Nudge
from anchovies.engine.pending import Pending

MAX_ROWS = 10_000
MAX_BYTES = 8 << 20
MAX_SECONDS = 1.0
_FIRST, _SAMPLE = 16, 64
_DICTS = 2_000  # few enough that dicts are still in the processor's cache when they become columns (measured: 1.5 x)
_BLOCK = 512  # of rows that are put away as text at once (measured: with 128 the encoding thread waits for the lock too often)

Mark = tuple[int, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows in the order they were yielded, and marks: (offset, actions), offsets rising from 0 to the number of rows.

    The actions of a mark at offset k were taken after the first k rows of this piece, and before the next row. `batch` is None
    where there are marks but no rows; it is never empty.
    """

    batch: pa.RecordBatch | None
    marks: tuple[Mark, ...] = ()

    @property
    def rows(self) -> int:
        return 0 if self.batch is None else int(self.batch.num_rows)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """When a run of rows becomes a batch: rows, bytes (about), seconds since its first row."""

    rows: int
    bytes: int
    seconds: float


def gather(
    items: Iterable[object],
    pending: Pending,
    *,
    types: Mapping[str, ColType] | None = None,
    hide: Collection[str] = (),
    rejecting: bool = False,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
    clock: Clock | None = None,
) -> Iterator[Piece]:
    """Pieces of everything that `items` yields: dicts, lists of dicts, Arrow tables, batches, readers, Arrow C streams.

    What is put into `pending` between two items is due after every row before it, and at the end what was put after the last.
    `types` are declared columns: rows are checked against them (texts parsed), Arrow data are cast. Rows that come slowly are
    passed on with the first row after `max_seconds`. Raises RowError for a value that does not fit (never with a value of the
    columns in `hide`), unless `rejecting`: then such rows are `Rejected` actions where they stood. Raises FatalError for an item
    that holds no rows; what `items` raises goes through.
    """
    care = Care(types or {}, hide, rejecting)
    run = _Run(care, _Bounds(max_rows, max_bytes, max_seconds), clock or SystemClock(), pending)
    try:
        yield from _all(run, iter(items))
    except (GeneratorExit, Nudge):
        raise  # a nudge may come between any two steps of ours: what waits may be half of something
    except BaseException:
        # what waited was yielded before the failure, so its marks still count: the whole units before it are kept
        run.mark_all()
        yield from run.up_to_last_mark()
        raise
    finally:
        run.end()


def _all(run: _Run, items: Iterator[object]) -> Iterator[Piece]:
    rows, now, goes_on = run.rows, run.clock.monotonic, True
    while goes_on:
        have, began = len(rows), now()
        goes_on = run.pending.pull(items, run.look_at - have)
        count, ended = len(rows) - have, now()
        run.pending.took(count, ended - began)
        if count and not have:
            run.begin(began)
        if countOf(map(type, rows[have:] if have else rows), dict) != count:
            yield from _others(run, have)
        else:
            run.mark_all()
        if len(rows) >= run.look_at and run.is_full():
            yield from run.flush_full()
        elif ended >= run.due:
            yield from run.flush()
    yield from run.flush()


def _others(run: _Run, have: int) -> Iterator[Piece]:
    """A turn in which not all items are dicts: one by one, each after the marks before it."""
    with run.taken_out(have) as (items, marks):
        for i, item in enumerate(items):
            due = sum(1 for _ in takewhile(lambda m, i=i: m[0] <= i, marks))  # type: ignore[misc]
            run.mark([action for _, action in marks[:due]])
            del marks[:due]
            yield from _other(run, item)
        run.mark([action for _, action in marks])
    run.pending.took(0, 0.0)  # tables and lists are large: no more than one of them at once


def _other(run: _Run, item: object) -> Iterator[Piece]:
    """The rows of a list one by one, Arrow data as they are."""
    if isinstance(item, Mapping):
        run.add(item)
    elif isinstance(item, list):
        for i, row in enumerate(item):
            if not isinstance(row, Mapping):
                raise _not_rows(f"a list whose item {i} is", row)
            run.add(row)
            if len(run.rows) >= run.look_at and run.is_full():
                yield from run.flush_full()
    else:
        for data in _batches(item):
            yield from run.made()
            if run.waiting:
                yield from run.flush()
            yield from run.pass_on(data)


def _batches(item: object) -> Iterator[pa.RecordBatch]:
    try:
        if isinstance(item, pa.RecordBatch):
            return iter([item])
        if isinstance(item, pa.Table):
            return iter(item.to_batches())
        if isinstance(item, pa.RecordBatchReader):
            return iter(item)
        if hasattr(item, "__arrow_c_stream__"):
            return iter(pa.RecordBatchReader.from_stream(item))
        if hasattr(item, "__arrow_c_array__"):
            return iter([pa.record_batch(item)])
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise FatalError(f"the source yielded a {type(item).__name__} that holds no table: {e}", hint=_WAYS) from None
    raise _not_rows("", item)


_WAYS = "yield a dict, a list of dicts, a pyarrow Table or RecordBatch, or anything with __arrow_c_stream__"


def _not_rows(where: str, item: object) -> FatalError:
    what = "None" if item is None else f"a {type(item).__name__} ({short(item)})"
    return FatalError(f"the source yielded {where and where + ' '}{what}, which is not a row", hint=_WAYS)


class _Run:
    """Rows that wait to become one batch, with their marks."""

    def __init__(self, care: Care, bounds: _Bounds, clock: Clock, pending: Pending) -> None:
        types = care.types
        self.pending = pending
        self.rows: list[Any] = pending.rows
        self._texts = TextRows(types)  # the rows before them
        self._plain = True  # as far as is known, the rows of this piece are texts
        self.clock = clock
        self.look_at = 1  # the number of rows at which their size is looked at again
        self.due = float("inf")
        self._marks: list[Mark] = []
        self._pool: ThreadPoolExecutor | None = None
        self._making: tuple[Future[pa.RecordBatch], tuple[Mark, ...]] | None = None  # the piece before this one
        self._types, self._care = types, care
        self._bounds = bounds
        self._bytes = 0
        self._passed = 0

    def begin(self, now: float | None = None) -> None:
        """Something begins to wait."""
        if self.due == float("inf"):
            self.due = (self.clock.monotonic() if now is None else now) + self._bounds.seconds

    def add(self, row: Row) -> None:
        self.begin()
        self.rows.append(row)

    def mark_all(self) -> None:
        """What was set so far is due after the rows that came before it."""
        for at, placed in groupby(self.pending.placed(), key=itemgetter(0)):
            self.mark([action for _, action in placed], at - self._passed)

    def mark(self, actions: Sequence[object], at: int | None = None) -> None:
        """`at`: how many of the rows that wait came before the actions; all of them where that is not said."""
        if not actions:
            return
        self.begin()
        waiting, last = self.waiting, self._marks[-1][0] if self._marks else 0
        at = waiting if at is None else min(max(at, last), waiting)
        before: tuple[object, ...] = ()
        if self._marks and at == last:
            before = self._marks.pop()[1]
        self._marks.append((at, (*before, *actions)))

    @contextmanager
    def taken_out(self, have: int) -> Iterator[tuple[list[object], list[tuple[int, Action]]]]:
        """The items of a turn that began at row `have`, no rows yet, with the actions that were put between them.

        What other threads put meanwhile is due after all of them.
        """
        first = self.pending.before + have
        items = self.pending.take_out(have)
        try:
            yield items, [(at - first, action) for at, action in self.pending.placed()]
        finally:
            self.pending.put_in()

    @property
    def waiting(self) -> int:
        return self._texts.count + len(self.rows)

    def is_full(self) -> bool:
        """Look at the newest row: every one of the first few, then one of 64 for all of them."""
        waiting = self.waiting
        step = 1 if waiting < _FIRST else _SAMPLE
        self._bytes += step * weight(self.rows[-1])
        if len(self.rows) >= _BLOCK and self._plain:
            self._put_away()
        count = len(self.rows)
        self.look_at = count + min(step, max(1, self._bounds.rows - waiting), max(1, _DICTS - count))
        return waiting >= self._bounds.rows or count >= _DICTS or self._bytes >= self._bounds.bytes

    def _put_away(self) -> None:
        """Keep the rows as text; where that cannot be, all rows of this piece are dicts."""
        self._plain = not self.rows or self._texts.take(self.rows)
        if self._plain:
            self.pending.pass_on()
        else:
            self._take_back()

    def _take_back(self) -> None:
        """What was put away waits as dicts again."""
        self.pending.take_back(self._texts.rows())
        self._texts = TextRows(self._types)

    def flush_full(self) -> Iterator[Piece]:
        """What waits, and the piece before it.

        Texts of a fast source are made columns beside it, and passed on with the next piece: so nothing waits for longer. Where
        types are declared they are not: a text that does not fit has to stop the source here.
        """
        now, half = self.clock.monotonic(), self._bounds.seconds / 2
        if self._making is not None:
            yield from self.made()
            self.due += half  # it was what had to be passed on by then: the rows that wait came after it
        if self._texts.count:
            self._put_away()
        if self._types or self._texts.count < _DICTS or now + half > self.due:
            yield from self.flush()
            return
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="gather")
        self._making = self._pool.submit(self._texts.batch), self._reset()
        self.due = now + half

    def made(self) -> Iterator[Piece]:
        """The piece that is being made, if there is one; where that fails, nothing comes after it either."""
        if self._making is not None:
            piece = Piece(self._making[0].result(), self._making[1])
            self._making = None
            yield piece

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def flush(self) -> Iterator[Piece]:
        """What waits, as a piece."""
        yield from self.made()
        if self._texts.count:
            self._put_away()
        batch: pa.RecordBatch | None = None
        bad: dict[int, Rejected] = {}
        try:
            if self._texts.count:
                batch = self._texts.batch(first_row=self._passed)
            elif self.rows:
                batch = rows_to_batch(self.rows, self._types, first_row=self._passed)
        except RowError as e:
            batch, bad = self._care.rows(e, self._texts.rows() if self._texts.count else list(self.rows))
        marks = with_rejects(self._reset(), bad) if bad else self._reset()
        if batch is not None or marks:
            yield Piece(batch, marks)

    def up_to_last_mark(self) -> Iterator[Piece]:
        """What waits up to its last mark; the rows after it are dropped."""
        self._take_back()
        last = next((at for at, actions in reversed(self._marks) if is_mark(actions)), 0)
        self._marks = [m for m in self._marks if m[0] <= last]
        del self.rows[last:]
        yield from self.flush()

    def _reset(self) -> tuple[Mark, ...]:
        marks = tuple(self._marks)
        self._passed += self.waiting
        self.pending.pass_on()
        self._texts = TextRows(self._types)
        self._plain = True
        self._marks.clear()
        self.look_at, self._bytes, self.due = 1, 0, float("inf")
        return marks

    def pass_on(self, data: pa.RecordBatch) -> Iterator[Piece]:
        """Arrow data, cast and cut; marks that wait stand before them. No rows wait."""
        step = max(1, self._bounds.bytes * data.num_rows // max(1, data.nbytes))
        types = {**self._types, **{n: t for n, t in types_of(data).items() if n not in self._types}}
        for at in range(0, data.num_rows, step):
            some, bad = data.slice(at, step), dict[int, Rejected]()
            batch: pa.RecordBatch | None
            try:
                batch = conform(some, types, first_row=self._passed)
            except RowError as e:
                batch, bad = self._care.arrow(e, some, types)
            marks = with_rejects(self._reset(), bad) if bad else self._reset()
            self._passed += some.num_rows
            self.pending.pass_on(some.num_rows)
            yield Piece(batch, marks)


def weight(value: object) -> int:
    """About how many bytes a row, or a value, takes."""
    if type(value) is dict:
        try:
            return 8 + 8 * len(value) + len("".join(value.values()))  # the same as below, for rows of texts
        except TypeError:
            pass
    if isinstance(value, str | bytes | bytearray):
        return 8 + len(value)
    if isinstance(value, Mapping):
        return 8 + sum(map(weight, value.values()))
    if isinstance(value, list | tuple):
        return 8 + sum(map(weight, value))
    return 8
