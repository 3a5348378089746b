"""One table of a flow: its writer (if it is kept), its consumers, its counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anchovies.core.retry import Retry
from anchovies.core.tbl import Column, Tbl
from anchovies.core.tblconfig import tbl_to_json
from anchovies.core.types import ColType
from anchovies.engine.services import Services
from anchovies.sdk.result import TableResult
from anchovies.store.record import DataFile

if TYPE_CHECKING:
    import pyarrow as pa


class Pipe:
    """Takes the rows of one table, in the thread of whoever makes them: the flow's own for its root, a chain's for the rest.

    What it publishes is only asked by the flow, while nothing above it moves.
    """

    def __init__(self, tbl: Tbl, services: Services, kept: bool) -> None:
        self.tbl = tbl
        self.kept = kept
        self.result = TableResult(tbl=tbl.name)
        self.consumers: list[Any] = []
        self._s = services
        self._types = services.known_types(tbl)
        self._turn = threading.Lock()
        self._whole = self._told = 0  # rows up to the last mark, counted apart from the writer; of those, rows that are committed
        self._writer: Any = None
        self._check: Any = None

    # rows

    def take(self, batch: pa.RecordBatch, marks: tuple[int, ...] = ()) -> None:
        """Rows of this table: to the writer, then to every consumer. `marks`: offsets in (0, rows] after which a unit ends."""
        self.result.rows += batch.num_rows
        if self._check is None:
            self._begin()
        self._check.look(batch)
        if self._writer is not None:
            with self._turn:
                self._writer.add(batch, marks)
        if marks:
            self._whole = self.result.rows - batch.num_rows + marks[-1]
        for consumer in self.consumers:
            done = 0
            for mark in marks if consumer.streaming else ():
                consumer.put(batch.slice(done, mark - done))
                consumer.mark()
                done = mark
            if done < batch.num_rows:
                consumer.put(batch.slice(done))

    def _begin(self) -> None:
        """The first rows: now pyarrow is worth its time."""
        rows, s = import_module("anchovies.engine.rowpath"), self._s
        self._check = rows.ColumnCheck(self.tbl)
        if self.kept:
            retry = Retry(s.clock, s.ids, s.batch.time_left)
            self._writer = rows.TableWriter(s.store, self.tbl, s.buffer, s.log.new_data_key, self._types, retry)

    def mark(self) -> None:
        """A unit ends here, and in every table that streaming chains make from these rows."""
        self._end_unit()
        for consumer in self.consumers:
            if consumer.streaming:
                consumer.mark()

    def _end_unit(self) -> None:
        if self._writer is not None:
            with self._turn:
                self._writer.mark()
        self._whole = self.result.rows

    def due_rows(self) -> int:
        """Rows of whole units since the last commit."""
        return self._whole - self._told

    def barrier(self) -> None:
        """Wait until everything taken so far has passed all that hangs below; the open unit ends."""
        for consumer in self.consumers:
            consumer.barrier()
        self._end_unit()

    def leave(self, *, well: bool) -> None:
        """Whoever feeds it has ended: `end` will see to the rest."""

    def end(self) -> None:
        """No more rows: wait for the consumers to return."""
        for consumer in self.consumers:
            consumer.end()
        self._end_unit()

    def discard(self) -> int:
        """Drop the open unit; returns its rows (0 where nothing is kept)."""
        if self._writer is None:
            return 0
        with self._turn:
            return int(self._writer.discard())

    # publishing

    @property
    def raw(self) -> int:
        """Bytes in memory that the rows of whole, uncommitted units took."""
        return self._writer.raw if self._writer is not None else 0

    @property
    def types(self) -> Mapping[str, ColType]:
        """The columns of all commits so far, and of the rows taken."""
        return self._types if self._writer is None else self._writer.types

    def finish(self) -> list[DataFile]:
        """The files of every whole unit since the last commit."""
        if self._writer is None:
            return []
        with self._turn:
            found: list[DataFile] = self._writer.finish()
            return found

    def committed(self, files: list[DataFile]) -> None:
        """These files of ours are in the log now."""
        if self._writer is not None:
            self._writer.committed()
        self._told = self._whole
        self.result.kept += sum(f.rows for f in files)
        self.result.bytes += sum(f.size for f in files)
        self.result.files += len(files)
        self.result.commits += bool(files)

    def published(self) -> dict[str, Any]:
        """The table as downstream anchovies should see it."""
        return tbl_to_json(self.tbl.with_(columns=tuple(Column(n, t) for n, t in self.types.items())))

    def close(self, *, keep_files: bool = False) -> None:
        """End. What was not committed is dropped; `keep_files`: but not deleted, because nobody knows whether it was."""
        if self._writer is not None:
            self._writer.abandon(keep_files=keep_files)
