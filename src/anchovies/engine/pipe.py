"""One table of a flow: its writer (if it is kept), its consumers, its counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anchovies.core.reshape import as_yielded
from anchovies.core.retry import Retry
from anchovies.core.shape import join_types
from anchovies.core.tbl import Column, Tbl
from anchovies.core.tblconfig import tbl_to_json
from anchovies.core.types import ColType
from anchovies.engine.actions import Rejected
from anchovies.engine.rowlog import tell_rows
from anchovies.engine.services import Services
from anchovies.sdk.result import TableResult
from anchovies.store.record import DataFile

if TYPE_CHECKING:
    import pyarrow as pa

    from anchovies.engine.gather import Piece


class Pipe:
    """Takes the rows of one table, in the thread of whoever makes them: the flow's own for its root, a chain's for the rest.

    What it publishes is only asked by the flow, while nothing above it moves.
    """

    def __init__(self, tbl: Tbl, services: Services, kept: bool) -> None:
        self.tbl = tbl
        self.kept = kept
        self.result = TableResult(tbl=tbl.name)
        self.size = self._whole_size = 0  # bytes in memory of all rows so far; up to the last mark
        self.consumers: list[Any] = []
        self._s = services
        self._types = services.known_types(tbl)
        self._turn = threading.Lock()
        self._whole = self._told = 0  # rows up to the last mark, counted apart from the writer; of those, rows that are committed
        self._writer: Any = None
        self._logged = 0
        self._check: Any = None
        self._shaper: Any = None
        self._rejects: Any = None
        self.yielded = as_yielded(self._strict(tbl))  # the table as its source knows it
        self.reading = self._how_to_read(tbl)

    def _strict(self, tbl: Tbl) -> Tbl:
        """`schema: reject` holds rows against every column that is known, once some are; until then it says nothing."""
        if tbl.schema != "reject" or not self._types:
            return tbl.with_(schema="evolve") if tbl.schema == "reject" else tbl
        return tbl.with_(columns=tuple(Column(n, t) for n, t in self._types.items() if t.kind != "null"))

    def _how_to_read(self, tbl: Tbl) -> dict[str, Any]:
        """How rows are gathered: the types that they have to have (of what is masked any will do), and what becomes of others."""
        masked = {old for old, new in tbl.rename.items() if new in tbl.mask} | set(tbl.mask)
        types = {n: t for n, t in self.yielded.types.items() if n not in masked}
        rejecting = tbl.on_bad_row == "reject" or tbl.schema == "reject"
        return {"types": types or None, "hide": masked | set(tbl.exclude), "rejecting": rejecting}

    # rows

    def shaped(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Hop 3: what was gathered, as it is kept. It comes before everything that might store a row, a `cache=True` among it."""
        strict = self.tbl.schema == "reject" and bool(self._types)
        if not (self.tbl.reshapes or strict):
            return pieces
        with self._turn:
            if self._shaper is None:
                shaper = import_module("anchovies.engine.rowpath").Shaper
                self._shaper = shaper(self.tbl, self._s.mask_key, self._types, strict)
        found: Iterator[Piece] = self._shaper.pieces(pieces)
        return found

    def take(self, batch: pa.RecordBatch, marks: tuple[int, ...] = ()) -> None:
        """Rows in their shape: to the writer, then to every consumer. `marks`: offsets in (0, rows] after which a unit ends."""
        self.size += batch.nbytes
        if self._check is None:
            self._begin()
        self.result.rows += batch.num_rows
        self._check.look(batch)
        self._logged = tell_rows(self._s, self.tbl.name, batch, self._logged)
        if self._writer is not None:
            with self._turn:
                self._writer.add(batch, marks)
        if marks:
            self._whole, self._whole_size = self.result.rows - batch.num_rows + marks[-1], self.size
        for consumer in self.consumers:
            consumer.put(batch, marks if consumer.streaming else ())

    def reject(self, bad: Rejected) -> None:
        """One row that cannot be kept: it belongs to the open unit, in another place."""
        self.result.rows += 1
        with self._turn:
            if self._rejects is None:
                s = self._s
                retry = Retry(s.clock, s.ids, s.batch.time_left)
                self._rejects = import_module("anchovies.engine.rejects").Rejects(self.tbl, s, retry)
            self._rejects.add(bad)

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
        if self._rejects is not None:
            with self._turn:
                self._rejects.mark()
        self._whole, self._whole_size = self.result.rows, self.size

    @property
    def whole_rows(self) -> int:
        """Rows of whole units, committed or not."""
        return self._whole

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
        for warning in self._shaper.unseen() if self._shaper is not None else ():
            self.warn(warning)

    def warn(self, message: str) -> None:
        self.result.warnings.append(message)
        self._s.tell("warning", self.tbl.name, message=message)

    def discard(self) -> int:
        """Drop the open unit; returns its rows, rejects among them."""
        with self._turn:
            for part in (self._writer, self._rejects):
                if part is not None:
                    part.discard()
        self.size = self._whole_size
        return self.result.rows - self._whole

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

    def finish_rejects(self) -> list[DataFile]:
        """The files of rejects of the same units."""
        if self._rejects is None:
            return []
        with self._turn:
            found: list[DataFile] = self._rejects.finish()
            return found

    def committed(self, files: Sequence[DataFile], rejects: Sequence[DataFile] = ()) -> None:
        """These files of ours are in the log now."""
        for part in (self._writer, self._rejects):
            if part is not None:
                part.committed()
        self.result.rejected += sum(f.rows for f in rejects)
        self._told = self._whole
        self.result.kept += sum(f.rows for f in files)
        self.result.bytes += sum(f.size for f in files)
        self.result.files += len(files)
        self.result.commits += bool(files)

    def published(self) -> dict[str, Any]:
        """The table as downstream anchovies should see it: with what other workers have found in it, too."""
        types = self.types
        if self._s.worker.of > 1:
            types = join_types(self._s.known_types(self.tbl), types, from_text=self.tbl.autodiscover)
        return tbl_to_json(self.tbl.with_(columns=tuple(Column(n, t) for n, t in types.items())))

    def close(self, *, keep_files: bool = False) -> None:
        """End. What was not committed is dropped; `keep_files`: but not deleted, because nobody knows whether it was."""
        if self._writer is not None:
            self._writer.abandon(keep_files=keep_files)
        if self._rejects is not None:
            self._rejects.close(keep_files=keep_files)
            self._rejects = None
            self._tell_rejects()

    def _tell_rejects(self) -> None:
        """How many there are, and how to look at them."""
        name, home, n = self.tbl.name, self._s.home, self.result.rejected
        if n:
            rows = f"{n:,} row{'s' if n > 1 else ''} could not be kept and went to the rejects, with what is wrong"
            self.warn(f"{name}: {rows}: anchovy rejects -i {home.id} -u {home.user} -e {name}")
