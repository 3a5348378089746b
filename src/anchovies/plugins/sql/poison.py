"""Which row a database refuses: the load is tried in halves, each in a transaction that is taken back, until one row is left.

That reads and loads about as many rows as the load has, once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from anchovies.sdk import Load, LoadFile, Position, RowError, Target

if TYPE_CHECKING:
    import pyarrow as pa


def named(error: RowError, load: Load, refuses: Callable[[Load], RowError | None]) -> RowError:
    """`error` with the row that it is about, which `refuses` is asked for; as it is where no single row is refused."""
    first, last = 0, load.rows
    while last - first > 1:
        middle = (first + last) // 2
        if refuses(Part.of(load, first, middle)):
            last = middle
        else:
            first = middle
    one = Part.of(load, first, last)
    found = refuses(one) if one.rows else None
    return _told(found, one) if found else error


def _told(error: RowError, one: Part) -> RowError:
    tbl = one.target.tbl
    (file,) = one.files
    row = next(b for b in file.batches() if b.num_rows).to_pylist()[0]
    keys = ", ".join(f"{n} = {row[n]!r}" for n in dict.fromkeys((*tbl.unique_by, *tbl.set_by)) if n in row)
    beside = f" ({keys})" if keys else ""
    where = {k: v for k, v in error.where.items() if k not in ("tbl", "seq")}
    return RowError(
        f"tbl {tbl.name}: the row with _seq {file.seq}{beside}: {error.message.removeprefix(f'tbl {tbl.name}: ')}",
        hint=error.hint or "mend it at the source, or take away what the table demands; nothing of this load was applied",
        tbl=tbl.name,
        seq=file.seq,
        **where,
    )


@dataclass(frozen=True)
class Slice:
    """The rows from `first` to before `last` of a file, as a file."""

    file: LoadFile
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first

    @property
    def size(self) -> int:
        return self.file.size

    @property
    def seq(self) -> int:
        return self.file.seq + self.first

    @property
    def units(self) -> Sequence[tuple[int, int]]:
        bounds = pairwise([*self.file.units, (self.file.rows, 0)])
        return [
            (max(start - self.first, 0), unit) for (start, unit), (end, _) in bounds if start < self.last and end > self.first
        ]

    @property
    def complete(self) -> bool:
        return self.file.complete and self.last == self.file.rows

    def parquet_path(self) -> str | None:
        return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        at = 0
        for batch in self.file.batches():
            start, end = max(self.first - at, 0), min(self.last - at, batch.num_rows)
            if start < end:
                yield batch.slice(start, end - start)
            at += batch.num_rows


@dataclass(frozen=True)
class Part:
    """Some of the rows of a load, in their order, as a load."""

    load: Load
    files: Sequence[LoadFile]

    @classmethod
    def of(cls, load: Load, first: int, last: int) -> Part:
        """The rows from `first` to before `last`."""
        files: list[LoadFile] = []
        at = 0
        for file in load.files:
            start, end = max(first - at, 0), min(last - at, file.rows)
            if start < end:
                files.append(Slice(file, start, end))
            at += file.rows
        return cls(load, files)

    @property
    def target(self) -> Target:
        return self.load.target

    @property
    def start(self) -> Position:
        return self.load.start

    @property
    def end(self) -> Position:
        return self.load.end

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    @property
    def size(self) -> int:
        return self.load.size

    @property
    def whole(self) -> bool:
        return self.load.whole

    @property
    def replaces(self) -> Position | None:
        return self.load.replaces
