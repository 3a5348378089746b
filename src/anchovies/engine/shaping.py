"""Hop 3, shape: what is left out, renamed and masked, in every batch of one table, before anybody else sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.arrow import field
from anchovies.core.errors import ConfigError
from anchovies.core.masks import masked
from anchovies.core.schema import batch_to_rows
from anchovies.core.suggest import nearest
from anchovies.core.tbl import Tbl
from anchovies.core.types import STR
from anchovies.engine.actions import Rejected
from anchovies.engine.calls import close
from anchovies.engine.care import with_rejects
from anchovies.engine.gather import Piece


class _Column(msgspec.Struct, frozen=True):
    """One column that is kept: where it stands in the source's batches, its field as kept, its mask."""

    at: int
    field: pa.Field
    mask: str | None


class Shaper:
    """Takes the batches of one table as its source yields them.

    `key` is that of the hashes; `known` are the columns that the table has: one that is masked may then be absent, and with
    `strict` (`schema: reject`) no other may come.
    """

    def __init__(self, tbl: Tbl, key: bytes | None, known: Iterable[str] = (), strict: bool = False) -> None:
        self._tbl, self._key, self._strict = tbl, key, strict
        self._known = set(known)
        self._allowed = {*known, *tbl.rename.values(), *tbl.mask}
        self._schema: pa.Schema | None = None
        self._columns: list[_Column] = []
        self._out: pa.Schema | None = None
        self._new: list[str] = []
        self._unseen = dict.fromkeys([*tbl.exclude, *tbl.rename])
        self._first = True
        self._turn = threading.Lock()  # several feeders may come at once

    def pieces(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """What was gathered, as it is kept: rows that are not are rejects where they stood. Nothing comes after a failure."""
        try:
            for piece in pieces:
                if piece.batch is None:
                    yield piece
                    continue
                with self._turn:
                    batch, bad = self.shape(piece.batch)
                marks = with_rejects(piece.marks, bad) if bad else piece.marks
                yield Piece(batch if batch.num_rows else None, marks)
        finally:
            close(pieces)

    def shape(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, Rejected]]:
        """The batch as it is kept, and the rows of it (by place) that are not. Columns that nothing is said of are handed on as
        they are. Raises ConfigError, RowError."""
        if self._schema is None or not batch.schema.equals(self._schema, check_metadata=True):
            self._learn(batch.schema)
        bad = self._unwanted(batch) if self._new else {}
        if bad:
            batch = batch.take(pa.array([i for i in range(batch.num_rows) if i not in bad], pa.int64()))
        arrays = [
            batch.column(c.at) if c.mask is None else masked(batch.column(c.at), batch.schema.field(c.at), c.mask, self._key)
            for c in self._columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._out), bad

    def _unwanted(self, batch: pa.RecordBatch) -> dict[int, Rejected]:
        """Rows with a value in a column that the table has not."""
        bad: dict[int, Rejected] = {}
        for name in self._new:
            for i in pc.indices_nonzero(pc.is_valid(batch.column(name))).to_pylist():
                if i not in bad:
                    reason = f"column {name!r} is new (schema: reject)"
                    bad[i] = Rejected(batch_to_rows(batch.slice(i, 1))[0], reason, column=name)
        return dict(sorted(bad.items()))

    def _learn(self, schema: pa.Schema) -> None:
        """What becomes of the columns of batches like this one."""
        tbl, names = self._tbl, schema.names
        gone = set(tbl.exclude)
        kept = [(i, tbl.rename.get(n, n)) for i, n in enumerate(names) if n not in gone]
        self._check(names, [n for _, n in kept])
        if self._strict:
            self._new = [names[i] for i, n in kept if n not in self._allowed]
            kept = [(i, n) for i, n in kept if n in self._allowed]
        if not kept:
            hint = "keep one of its columns" if tbl.exclude else "look at its source: it has none of the columns that are known"
            raise ConfigError(f"table {tbl.name!r}: no column of {', '.join(names[:20])} is kept", hint=hint, tbl=tbl.name)
        self._columns = [_Column(i, _named(schema.field(i), n, n in tbl.mask), tbl.mask.get(n)) for i, n in kept]
        self._schema, self._out = schema, pa.schema([c.field for c in self._columns])
        for n in names:
            self._unseen.pop(n, None)

    def _check(self, names: list[str], kept: list[str]) -> None:
        twice = next((n for n in kept if kept.count(n) > 1), None)
        where = f"tbls.{self._tbl.name}"
        if twice is not None:
            raise ConfigError(f"{where}.rename: there is a column {twice!r} already", hint="rename or exclude that one as well")
        for setting, said, there in (
            ("exclude", self._tbl.exclude, names),
            ("rename", self._tbl.rename, names),
            ("mask", self._tbl.mask, kept),
        ):
            folded = {n.casefold(): n for n in there}
            for n in said:
                if n not in there and n.casefold() in folded:
                    raise _absent(where, setting, n, folded[n.casefold()])
        if self._first:  # a name that was misspelt must not leave a column in clear
            self._first = False
            for n in self._tbl.mask:
                if n not in kept and n not in self._known:
                    raise _absent(where, "mask", n, nearest(n, kept))

    def unseen(self) -> list[str]:
        """In words, names that were to be left out or renamed and never came."""
        return [
            f"{self._tbl.name}: no column {n!r} came, which {'exclude' if n in self._tbl.exclude else 'rename'} names"
            for n in self._unseen
            if self._schema is not None
        ]


def _named(f: pa.Field, name: str, is_masked: bool) -> pa.Field:
    return field(name, STR) if is_masked else f.with_name(name)


def _absent(where: str, setting: str, name: str, near: str | None) -> ConfigError:
    hint = f"did you mean {near!r}?" if near else f"if it comes later, declare it: columns: {{{name}: str}}"
    return ConfigError(f"{where}.{setting}: there is no column {name!r}", hint=hint, column=name)
