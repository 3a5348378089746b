"""Hop 4 as the engine drives it: batches of one table → data files of whole units.

Rows after the last mark wait in memory. When they outgrow it they spill into files of their own, which become good at the next
mark or are thrown away; so a commit can always be cut at a mark, however long a unit is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from anchovies.core.arrow import conform, one_batch, schema_of, table_of, type_of
from anchovies.core.errors import AnchovyError
from anchovies.core.retry import Retry
from anchovies.core.shape import evolve
from anchovies.core.tbl import Tbl
from anchovies.core.types import ColType, join
from anchovies.store.base import Store
from anchovies.store.buffers import Buffer
from anchovies.store.datafile import write_file
from anchovies.store.record import DataFile

ROLL_BYTES = 64 << 20
SPILL_BYTES = 8 << 20
ENCODE_BYTES = 4 << 20
AHEAD = 2 * SPILL_BYTES // ENCODE_BYTES  # what spills comes at once: its source goes on reading meanwhile


@dataclass(slots=True)
class _Open:
    """A file that is being encoded."""

    types: dict[str, ColType]
    encoder: Any
    rows: int = 0
    raw: int = 0
    cuts: list[int] = field(default_factory=list)


class _FileSet:
    """Batches in, closed files out. Encoding and storing happen in the pool's one thread, in order."""

    def __init__(self, owner: TableWriter) -> None:
        self._owner = owner
        self._open: _Open | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_raw = 0
        self.files: list[Future[DataFile]] = []

    def add(self, batch: pa.RecordBatch, types: dict[str, ColType], starts: Sequence[int]) -> None:
        current = self._open
        if current is not None and not _fits(types, current.types):
            self.close()
            current = None
        if current is None:
            file_types = self._owner.joined(types)
            current = self._open = _Open(file_types, self._owner.buffer.writer(schema_of(file_types)))
        current.cuts += [current.rows + s for s in starts]
        current.rows += batch.num_rows
        current.raw += batch.nbytes
        self._waiting.append(batch)
        self._waiting_raw += batch.nbytes
        if self._waiting_raw >= ENCODE_BYTES:
            self._encode(current)
        if current.raw >= ROLL_BYTES:
            self.close()

    def _encode(self, current: _Open) -> None:
        """Hand over what waits, as one batch: each call into Arrow waits for the interpreter's lock, so there should be few."""
        waiting, self._waiting, self._waiting_raw = self._waiting, [], 0
        self._owner.submit(
            lambda: current.encoder.write(one_batch(table_of([conform(b, current.types) for b in waiting], current.types)))
        )

    def close(self) -> None:
        if self._open is None:
            return
        if self._waiting:
            self._encode(self._open)
        current, self._open = self._open, None
        self.files.append(self._owner.submit(lambda: self._owner.store_file(current)))

    def take(self, other: _FileSet) -> None:
        """Append the files of `other`, in order, after our own."""
        self.close()
        other.close()
        self.files += other.files
        other.files = []


class TableWriter:
    """One table of one batch. Not thread-safe: its pipe owns it (the encoding thread is its own business).

    After any failure, here or in the encoding thread, every later call fails as well: what is half there is never finished.
    """

    def __init__(
        self,
        store: Store,
        tbl: Tbl,
        buffer: Buffer,
        new_key: Callable[[str, str], str],
        types: Mapping[str, ColType],
        retry: Retry,
    ) -> None:
        self._store, self._retry = store, retry
        self.table = table = tbl.name
        self.buffer = buffer
        self._new_key = new_key
        self.types: dict[str, ColType] = dict(types)
        self._tbl = tbl if types else tbl.with_(schema="evolve")  # what nobody has seen yet cannot be frozen
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"encode-{table}")
        self._ahead: deque[Future[Any]] = deque()
        self._stored: set[str] = set()
        self._finished: list[DataFile] = []
        self._failure: BaseException | None = None
        self._good = _FileSet(self)
        self._reset_unit()
        self._next_starts = True
        self._closed = False
        self.raw = 0

    def _reset_unit(self) -> None:
        self._unit: list[tuple[pa.RecordBatch, dict[str, ColType], list[int]]] = []
        self._spilled: _FileSet | None = None
        self._unit_rows = self._unit_raw = self._held = 0

    def add(self, batch: pa.RecordBatch, marks: Sequence[int] = ()) -> None:
        """Append rows. `marks`: offsets in (0, rows] after which a unit ends; rows after the last one stay open."""
        with self._whole():
            done = marks[-1] if marks else 0
            if marks:
                starts = [0] if self._next_starts else []
                starts += [m for m in dict.fromkeys(marks) if 0 < m < done]
                self._hold(batch.slice(0, done), starts)
                self._end_unit()
            if done < batch.num_rows:
                self._hold(batch.slice(done) if done else batch, [0] if self._next_starts else [])
                self._next_starts = False

    def mark(self) -> None:
        """The open unit ends here and becomes good."""
        with self._whole():
            self._end_unit()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is done in here is done whole, or it is the last that this writer did."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except BaseException as e:
            self._failure = self._failure or e
            raise

    def _hold(self, batch: pa.RecordBatch, starts: list[int]) -> None:
        if not batch.num_rows:
            return
        types = {f.name: type_of(f) for f in batch.schema}
        self._unit.append((batch, types, starts))
        self._unit_rows += batch.num_rows
        self._unit_raw += batch.nbytes
        self._held += batch.nbytes
        if self._held >= SPILL_BYTES:
            self._spilled = self._spilled or _FileSet(self)
            self._drain(self._spilled)

    def _drain(self, into: _FileSet) -> None:
        for batch, types, starts in self._unit:
            into.add(batch, types, starts)
        self._unit, self._held = [], 0

    def _end_unit(self) -> None:
        if self._spilled is not None:
            self._drain(self._spilled)
            self._good.take(self._spilled)
        else:
            self._drain(self._good)
        self.raw += self._unit_raw
        self._reset_unit()
        self._next_starts = True

    def discard(self) -> int:
        """Drop the open unit; returns its rows."""
        dropped = self._unit_rows
        if self._spilled is not None:
            self._spilled.close()
            self._drop(self._spilled.files)
        self._reset_unit()
        self._next_starts = True
        return dropped

    def finish(self) -> list[DataFile]:
        """Close and store what is good: every file since the last `committed()`, in order. The writer can go on."""
        with self._whole():
            self._good.close()
            self._finished += [f.result() for f in self._good.files]
            self._good.files = []
            self._settle()
            self.raw = 0
            return list(self._finished)

    def committed(self) -> None:
        """What was finished is named by the log now: it is nobody's to delete."""
        self._stored -= {f.path for f in self._finished}
        self._finished = []

    def abandon(self, *, keep_files: bool) -> None:
        """End without a commit. `keep_files`: the fate of a commit is unknown, so nothing is deleted."""
        if self._closed:
            return
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        for key in () if keep_files else sorted(self._stored):
            self._delete(key)

    def close(self) -> None:
        """Everything good was committed: drop the rest and end the thread."""
        self.abandon(keep_files=False)

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Run in the encoding thread, at most `AHEAD` pieces ahead of it."""
        future = self._pool.submit(self._run, work)
        self._ahead.append(future)
        while len(self._ahead) > AHEAD:
            self._ahead.popleft().result()
        return future

    def _run(self, work: Callable[[], Any]) -> Any:
        """In the encoding thread: nothing is written after something that was not."""
        with self._whole():
            return work()

    def _settle(self) -> None:
        while self._ahead:
            self._ahead.popleft().result()

    def joined(self, types: Mapping[str, ColType]) -> dict[str, ColType]:
        """The types of the next file: all that is known of the table, widened where that changes no value's form.

        Raises ConfigError where the table's `schema` does not let it grow so.
        """
        self.types = evolve(self._tbl, self.types, types)
        return {n: (types[n] if n in types and _changes_form(types[n], t) else t) for n, t in self.types.items()}

    def store_file(self, done: _Open) -> DataFile:
        key = self._new_key(self.table, self.buffer.ext)
        data = done.encoder.finish()
        self._stored.add(key)
        return self._retry.call(
            lambda: write_file(self._store, key, self.table, data, rows=done.rows, types=done.types, cuts=done.cuts)
        )

    def _drop(self, files: Sequence[Future[DataFile]]) -> None:
        for future in files:
            self._pool.submit(lambda f=future: self._delete(f.result().path))  # type: ignore[misc]

    def _delete(self, key: str) -> None:
        self._stored.discard(key)
        try:
            self._store.delete(key)
        except AnchovyError:
            return  # garbage of a closed epoch; collection finds it


def _changes_form(have: ColType, wide: ColType) -> bool:
    """Whether a value would have to be written in another form (a number as JSON text, say) to lie in a wider column."""
    return wide.kind in ("json", "str") and have.kind not in (wide.kind, "null")


def _fits(types: Mapping[str, ColType], into: Mapping[str, ColType]) -> bool:
    """Whether a batch can be kept in a file of these types as it is."""
    return all(
        n in into and (t.kind == "null" or (join(t, into[n]) == into[n] and not _changes_form(t, into[n])))
        for n, t in types.items()
    )
