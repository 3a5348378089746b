"""For tests of SQL uploaders: loads made of Python rows, and a model of the table that plain Python keeps row by row.

The model is the judge of every database: however commits are grouped into loads, the table must be the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anchovies.core.tbl import Tbl
from anchovies.core.types import ColType
from anchovies.sdk.stream import Position, Target

ARROW: Mapping[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "datetime": pa.timestamp("us"),
    "datetime_tz": pa.timestamp("us", "UTC"),
    "uuid": pa.string(),
    "json": pa.string(),
}
Row = Mapping[str, Any]


def arrow_type(type: ColType) -> pa.DataType:
    """The Arrow type in which an uploader gets a column."""
    if type.kind == "decimal":
        return (pa.decimal128 if type.precision <= 38 else pa.decimal256)(type.precision, type.scale)
    return pa.list_(arrow_type(type.item)) if type.item else ARROW[type.kind]


@dataclass(frozen=True)
class Unit:
    """Rows between two marks, the first of which has this `_seq`."""

    seq: int
    rows: Sequence[Row]


@dataclass
class FakeFile:
    """A LoadFile of whole units whose rows follow one another in `_seq`. `path`: where to write it as Parquet, if it shall be."""

    tbl: Tbl
    parts: Sequence[Unit]
    path: str | None = None
    batch_rows: int = 2
    complete: bool = False
    size: int = 1

    @property
    def seq(self) -> int:
        return self.parts[0].seq

    @property
    def rows(self) -> int:
        return sum(len(u.rows) for u in self.parts)

    @property
    def units(self) -> Sequence[tuple[int, int]]:
        return [(u.seq - self.seq, u.seq) for u in self.parts]

    def parquet_path(self) -> str | None:
        if self.path is not None:
            pq.write_table(self._table().drop_columns(self._absent()), self.path)
        return self.path

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._table().to_batches(max_chunksize=self.batch_rows)

    def _absent(self) -> list[str]:
        return [c.name for c in self.tbl.columns if c.type.kind == "null"]

    def _table(self) -> pa.Table:
        rows = [r for u in self.parts for r in u.rows]
        schema = pa.schema([(c.name, arrow_type(c.type)) for c in self.tbl.columns])
        return pa.table({f.name: pa.array([r.get(f.name) for r in rows], f.type) for f in schema}, schema)


@dataclass
class FakeLoad:
    """A Load of files, from one position to another."""

    target: Target
    files: Sequence[FakeFile]
    start: Position = field(default_factory=Position)
    end: Position = field(default_factory=lambda: Position(1, "c1"))
    replaces: Position | None = None
    whole: bool = False

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)


def target(tbl: Tbl, schema: str = "shop") -> Target:
    """A target of an upstream called prod/shop."""
    return Target("store", "prod", "shop", schema, tbl)


def loads(
    tbl: Tbl, commits: Sequence[Sequence[Unit]], cuts: Sequence[int] = (), folder: str | None = None, schema: str = "shop"
) -> list[FakeLoad]:
    """Commits grouped into loads: a load ends before each commit in `cuts`. With `folder`, files are Parquet too.

    Of a table that is loaded task by task, each commit is a whole task, so cuts make no difference.
    """
    out: list[FakeLoad] = []
    inside = range(1, len(commits)) if tbl.by_task else [c for c in cuts if 0 < c < len(commits)]
    bounds = sorted({0, len(commits), *inside})
    for first, last in pairwise(bounds):
        files = [
            FakeFile(tbl, [u for u in c if u.rows], f"{folder}/{i}.parquet" if folder else None)
            for i, c in enumerate(commits[first:last], first)
            if any(u.rows for u in c)
        ]
        ends = [Position(n, f"c{n}") if n else Position() for n in (first, last)]
        out.append(FakeLoad(target(tbl, schema), files, ends[0], ends[1], whole=tbl.by_task and bool(files)))
    return out


@dataclass
class Version:
    """One row of the modelled table. `end` None: current."""

    row: dict[str, Any]
    seq: int
    end: int | None = None


class Model:
    """What a table is after a history, kept one row and one unit at a time."""

    def __init__(self, tbl: Tbl) -> None:
        self.tbl = tbl
        self.names = [c.name for c in tbl.columns if c.type.kind != "null"]
        self.versions: list[Version] = []
        self.appended: list[dict[str, Any]] = []
        self.bag = bool(tbl.set_by) and not tbl.unique_by and not tbl.sort_by

    def apply(self, units: Sequence[Unit]) -> None:
        """Apply units in their order; of a table that is loaded task by task, they are one whole task."""
        numbered = [[({n: r.get(n) for n in self.names}, u.seq + i) for i, r in enumerate(u.rows)] for u in units]
        if self.tbl.by_task:
            numbered = [rows] if (rows := [row for unit in numbered for row in unit]) else []
        for rows in numbered:
            if self.tbl.write_mode == "append" or not self.tbl.identity:
                self.appended = [*([] if self.tbl.by_task else self.appended), *(r for r, _ in rows)]
            elif self.tbl.set_by or self.tbl.by_task:
                self._unit(rows)
            else:
                for row, seq in rows:
                    self._arrive(row, seq)

    def table(self) -> list[tuple[Any, ...]]:
        """The rows of the table: source columns and, for `scd`, `_seq` and `_del`; sorted by their text."""
        if self.tbl.write_mode == "append" or not self.tbl.identity:
            out = [tuple(r[n] for n in self.names) for r in self.appended]
        elif self.tbl.write_mode in ("merge", "replace"):
            out = [tuple(v.row[n] for n in self.names) for v in self.versions if v.end is None]
        else:
            out = [(*(v.row[n] for n in self.names), v.seq, v.end) for v in self.versions]
        return sorted(out, key=repr)

    # ---- keys without sets: row by row

    def _arrive(self, row: dict[str, Any], seq: int) -> None:
        current = self._current(self._identity(row))
        if self._dead(row):
            if current is not None and self._order(row, current.row) <= 0:
                current.end = seq
        elif current is None:
            self.versions.append(Version(row, seq))
        elif _equal(row, current.row):
            return
        elif self._order(row, current.row) <= 0:
            current.end = seq
            self.versions.append(Version(row, seq))
        elif not self._known(row):
            self.versions.append(Version(row, seq, current.seq))

    # ---- sets: unit by unit

    def _unit(self, rows: list[tuple[dict[str, Any], int]]) -> None:
        if self.bag:
            self._bags(rows)
            return
        winners: dict[Any, tuple[dict[str, Any], int]] = {}
        for row, seq in rows:
            best = winners.get(self._identity(row))
            if best is None or self._order(row, best[0]) <= 0:
                winners[self._identity(row)] = (row, seq)
        self._expire(rows, set(winners))
        known = list(self.versions)
        for key, (row, seq) in winners.items():
            current = self._current(key)
            if current is not None and not self._dead(row) and _equal(row, current.row):
                continue
            if current is not None:
                current.end = seq
            if not self._dead(row):
                self.versions.append(Version(row, seq))
        lost: list[dict[str, Any]] = []
        for row, seq in rows:
            key = self._identity(row)
            won, at = winners[key]
            if self._dead(row) or self._dead(won):
                continue
            mine = [v.row for v in known if self._identity(v.row) == key]
            if seq == at or any(_equal(row, other) for other in [won, *mine, *(x for x in lost if self._identity(x) == key)]):
                continue
            lost.append(row)
            current = self._current(key)
            assert current is not None
            self.versions.append(Version(row, seq, current.seq))

    def _bags(self, rows: list[tuple[dict[str, Any], int]]) -> None:
        """Rows without anything that tells them apart: as many equal rows as the unit has continue, the rest come or go."""
        left = [v for v in self.versions if v.end is None and any(self._set(v.row) == self._set(r) for r, _ in rows)]
        for row, seq in rows:
            if self._dead(row):
                continue
            same = next((v for v in left if _equal(v.row, row)), None)
            if same is None:
                self.versions.append(Version(row, seq))
            else:
                left.remove(same)
        for version in left:
            version.end = self._first(rows, version)

    def _expire(self, rows: list[tuple[dict[str, Any], int]], here: set[Any]) -> None:
        sets = {self._set(r) for r, _ in rows}
        for version in self.versions:
            if version.end is None and self._set(version.row) in sets and self._identity(version.row) not in here:
                version.end = self._first(rows, version)

    def _first(self, rows: list[tuple[dict[str, Any], int]], version: Version) -> int:
        return next(seq for row, seq in rows if self._set(row) == self._set(version.row))

    # ---- pieces

    def _identity(self, row: Row) -> Any:
        return tuple(repr(row.get(n)) for n in self.tbl.identity)

    def _set(self, row: Row) -> Any:
        return () if self.tbl.by_task else tuple(repr(row[n]) for n in self.tbl.set_by)

    def _dead(self, row: Row) -> bool:
        """Whether a row marks a delete."""
        return bool(row.get(self.tbl.deleted_by)) if self.tbl.deleted_by else False

    def _current(self, key: Any) -> Version | None:
        return next((v for v in self.versions if v.end is None and self._identity(v.row) == key), None)

    def _known(self, row: Row) -> bool:
        return any(_equal(v.row, row) for v in self.versions if self._identity(v.row) == self._identity(row))

    def _order(self, a: Row, b: Row) -> int:
        """Below 0: `a` sorts before `b`."""
        for key in self.tbl.sort_by:
            x, y = a.get(key.column), b.get(key.column)
            nulls = int(x is None) - int(y is None)
            step = nulls if x is None or y is None else _compare(x, y) * (-1 if key.descending else 1)
            if step:
                return step
        return 0


def _compare(x: Any, y: Any) -> int:
    """By value; NaN above every number."""
    if x != x or y != y:
        return int(x != x) - int(y != y)
    if isinstance(x, str):
        x, y = x.encode(), y.encode()
    return int(x > y) - int(x < y)


def _equal(a: Row, b: Row) -> bool:
    return all(x == b[n] or (x != x and b[n] != b[n]) for n, x in a.items())
