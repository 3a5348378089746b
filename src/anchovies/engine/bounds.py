"""`batch_rows` and `batch_bytes`: how much of a table one batch reads. It is cut at marks; the next batch goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.settings import Settings
from anchovies.core.tbl import Tbl
from anchovies.engine.actions import Ack, PutLedger, SetCheckpoint
from anchovies.engine.graph import Part
from anchovies.engine.pipe import Pipe

if TYPE_CHECKING:
    import pyarrow as pa

    from anchovies.engine.gather import Piece

_RESUMES = (SetCheckpoint, PutLedger, Ack)  # what says where the next batch begins
_ROWS, _BYTES = "batch_rows", "batch_bytes"


class Bound(msgspec.Struct, frozen=True):
    """The most of one table. `bytes` as its rows lie in memory. None: as much as there is."""

    rows: int | None
    bytes: int | None

    @classmethod
    def of(cls, tbl: Tbl, settings: Settings) -> Bound:
        """What the table says, else what the run says; 0 takes a limit away. Raises ConfigError where a batch must be whole."""
        rows = settings.batch_rows if tbl.batch_rows is None else tbl.batch_rows
        size = settings.batch_bytes if tbl.batch_bytes is None else tbl.batch_bytes
        if (rows or size) and (tbl.snapshot or tbl.write == "replace"):
            raise ConfigError(
                f"table {tbl.name!r}: {'snapshot' if tbl.snapshot else 'write: replace'} takes whole tasks, so it has no limit",
                hint=f"set tbls.{tbl.name}.{_ROWS if rows else _BYTES} to 0",
                tbl=tbl.name,
            )
        return cls(rows or None, size or None)

    @property
    def is_set(self) -> bool:
        return self.rows is not None or self.bytes is not None

    def passed(self, rows: int, size: int) -> str | None:
        """The setting whose limit so many rows and bytes come to."""
        if self.rows is not None and rows >= self.rows:
            return _ROWS
        return _BYTES if self.bytes is not None and size >= self.bytes else None

    def said(self, setting: str) -> str:
        return f"{setting} of {self.rows if setting == _ROWS else self.bytes:,}"


class Bounds:
    """The limits of all tables of one flow. `cut` every piece, in the order in which they come."""

    def __init__(self, settings: Settings, pipes: Mapping[str, Pipe], part: Part) -> None:
        found = {name: Bound.of(p.tbl, settings) for name, p in pipes.items()}
        self._bounds = {name: b for name, b in found.items() if b.is_set}
        self._pipes = pipes
        self._made_of = {root.name: _made_of(root.name, part) for root in part.roots}
        self._marked: set[str] = set()  # the roots that have said where a next batch could begin
        self.reached: str | None = None  # in words
        self.is_over = False  # for the root that is read now

    def begin(self) -> None:
        """Another root is read from here on."""
        self.is_over = False

    def cut(self, root: str, piece: Piece) -> Piece:
        """The piece, or what of it comes before the first mark at which a table has had enough: then that was the last one."""
        if not self._bounds:
            return piece
        size = piece.batch.nbytes if piece.batch is not None else 0
        for i, (offset, actions) in enumerate(piece.marks):
            if any(isinstance(a, _RESUMES) for a in actions):
                self._marked.add(root)
                if said := self._enough(root, piece.batch, offset, size):
                    self.reached, self.is_over = said, True
                    batch = piece.batch.slice(0, offset) if piece.batch is not None and offset else None
                    return type(piece)(batch, piece.marks[: i + 1])
        return piece

    def _enough(self, root: str, batch: pa.RecordBatch | None, offset: int, size: int) -> str | None:
        for name in self._made_of[root] & self._bounds.keys():
            pipe, bound = self._pipes[name], self._bounds[name]
            rows, held = pipe.result.rows, pipe.size
            if name == root and batch is not None:
                rows += offset
                if bound.bytes is not None and held + size >= bound.bytes:
                    held += batch.slice(0, offset).nbytes
            if setting := bound.passed(rows, held):
                return f"{name} has come to its {bound.said(setting)}: the next batch goes on from there"
        return None

    def check_marked(self, root: str) -> None:
        """At the end of a root's rows. Raises ConfigError where a limit was passed, but there was no mark to stop at."""
        pipe, bound = self._pipes[root], self._bounds.get(root)
        if bound is None or root in self._marked:
            return
        if setting := bound.passed(pipe.result.rows - 1, pipe.size - 1):
            raise ConfigError(
                f"{root}: {pipe.result.rows:,} rows came without a checkpoint, which is more than the {bound.said(setting)} "
                "and no place to stop at; nothing of them was kept",
                hint=f"let its source set a checkpoint now and then (after each page, say), or take the limit away: "
                f"tbls.{root}.{setting}: 0",
                tbl=root,
            )


def _made_of(root: str, part: Part) -> set[str]:
    """The table, and every table that chains make from its rows."""
    found = {root}
    for table in part.tables:
        if table.name in found:
            found.update(made for node in table.takers for made in node.makes)
    return found
