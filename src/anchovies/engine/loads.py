"""Hops 6 and 7: commits of an upstream → loads: what a target applies in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from anchovies.core.arrow import conform
from anchovies.core.schema import batch_to_rows
from anchovies.core.tbl import Tbl
from anchovies.sdk.stream import Position, Target
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches, read_file
from anchovies.store.record import DataFile, Record


@dataclass(slots=True)
class CommittedFile:
    """See `anchovies.sdk.LoadFile`."""

    store: Store
    target: Target
    file: DataFile
    seq: int
    units: Sequence[tuple[int, int]]
    complete: bool = False

    @property
    def rows(self) -> int:
        return self.file.rows

    @property
    def size(self) -> int:
        return self.file.size

    def parquet_path(self) -> str | None:
        path = self.store.local_path(self.file.path) if self.file.path.endswith(".parquet") else None
        if path is not None:
            read_file(self.store, self.file)  # verified: what the log names is what lies there
        return path

    def batches(self) -> Iterator[Any]:
        types = self.target.tbl.types
        return (conform(b, types) for b in read_batches(self.store, self.file))


@dataclass(slots=True)
class CommitLoad:
    """See `anchovies.sdk.Load`."""

    target: Target
    start: Position
    end: Position
    files: list[CommittedFile] = field(default_factory=list)
    replaces: Position | None = None
    whole: bool = False

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)


class LoadStream:
    """The rows of a load as a sink gets them: see `anchovies.sdk.Stream`."""

    def __init__(self, tbl: Tbl, load: CommitLoad, check: Any) -> None:
        self.tbl = tbl
        self._load = load
        self._check = check

    def batches(self) -> Iterator[Any]:
        for file in self._load.files:
            for batch in file.batches():
                self._check()
                yield batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch_to_rows(batch)


def files_of(record: Record, tbl: str, store: Store, target: Target) -> list[CommittedFile]:
    """The files of `tbl` in a record, each with the `_seq` of its first row and the units it holds."""
    found: list[CommittedFile] = []
    seq, unit = record.seq, record.seq
    for file in record.change.files:
        if file.table == tbl:
            starts = [(c, seq + c) for c in file.cuts if c < file.rows]
            units = starts if starts and starts[0][0] == 0 else [(0, unit if found else seq), *starts]
            unit = units[-1][1]
            found.append(CommittedFile(store, target, file, seq, units))
        seq += file.rows
    if found and tbl in record.change.complete:
        found[-1].complete = True
    return found


def group(
    records: Iterable[Record],
    start: Position,
    store: Store,
    target: Target,
    most_bytes: int,
    after: int = 0,
    most_rows: int | None = None,
) -> Iterator[CommitLoad]:
    """Consecutive commits as loads of about `most_bytes` of data files, and `most_rows`; a commit is never cut. Commits without
    rows of the table only move the end; so do those up to slot `after`. Of a table that is loaded task by task: see `tasks`."""
    if target.tbl.by_task:
        yield from tasks(records, start, store, target, after)
        return
    load = CommitLoad(target, start, start)
    for record in records:
        files = files_of(record, target.tbl.name, store, target) if record.slot > after else []
        size, rows = load.size + sum(f.size for f in files), load.rows + sum(f.rows for f in files)
        if files and load.files and (size > most_bytes or (most_rows is not None and rows > most_rows)):
            yield load
            load = CommitLoad(target, load.end, load.end)
        load.files += files
        load.end = Position(record.slot, record.cid)
    if load.end != load.start:
        yield load


def tasks(records: Iterable[Record], start: Position, store: Store, target: Target, after: int) -> Iterator[CommitLoad]:
    """One load for each whole task that ended well; what others committed of the table is never applied.

    Where only the newest task shows in the target (`replace`), that one alone. A task is what one batch of one session committed.
    One without rows moves the end, and nothing else: a source that found nothing new has not said that there is nothing.
    """
    load, files, who = CommitLoad(target, start, start), list[CommittedFile](), ("", 0)
    for record in records:
        found = files_of(record, target.tbl.name, store, target)
        ended = target.tbl.name in record.change.complete
        if (found or ended) and (record.writer.session, record.writer.batch) != who:
            files, who = [], (record.writer.session, record.writer.batch)
        files += found
        if not ended:
            continue
        if files and record.slot > after:
            if load.whole and target.tbl.write_mode != "replace":
                yield load
                load = CommitLoad(target, load.end, load.end)
            load.files, load.whole = files, True
        load.end, files = Position(record.slot, record.cid), []
    if load.end != load.start:
        yield load
