"""What flows: the stream a sink takes, and the load an uploader's target takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from anchovies.core.errors import RetryableError
from anchovies.core.tbl import Tbl

if TYPE_CHECKING:
    import pyarrow as pa


class Stream(Protocol):
    """The rows of one table. Iterate it for dicts, or take `batches()`; one of the two, once."""

    @property
    def tbl(self) -> Tbl: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def batches(self) -> Iterator[pa.RecordBatch]: ...


class Position(msgspec.Struct, frozen=True):
    """After which commit of an upstream's log a target stands. `slot` 0 with an empty `cid`: before the first."""

    slot: int = 0
    cid: str = ""


class Target(msgspec.Struct, frozen=True):
    """Where the rows of one upstream table go. The position belongs to it, whoever loads."""

    store: str  # uuid of the upstream's datastore log
    user: str  # the upstream anchovy
    id: str
    schema: str  # target schema, as configured; a database without schemas names the table `<schema>__<tbl>`
    tbl: Tbl  # as merged from the upstream and config.yaml; `columns` are the types joined over all commits

    @property
    def source(self) -> str:
        return f"{self.user}/{self.id}"


class LoadFile(Protocol):
    """One committed data file of a load, in the order of the log."""

    @property
    def rows(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def seq(self) -> int:
        """`_seq` of the first row; the following rows count up by one."""
        ...

    @property
    def units(self) -> Sequence[tuple[int, int]]:
        """(row offset, unit id) of every unit that has rows in this file, first offset 0. A unit id is the `_seq` of its first
        row."""
        ...

    @property
    def complete(self) -> bool:
        """Whether a task of this table ended well with the commit that this file is the last of."""
        ...

    def parquet_path(self) -> str | None:
        """Path of a local Parquet file whose bytes were just verified, for databases that read Parquet; None elsewhere.
        Its columns may be fewer, or narrower, than the target's."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Verified rows, with exactly `Target.tbl.columns`, in their order and Arrow types; absent columns are null."""
        ...


class Load(Protocol):
    """Consecutive commits of one upstream table, to be applied in one transaction together with the position."""

    @property
    def target(self) -> Target: ...
    @property
    def start(self) -> Position: ...
    @property
    def end(self) -> Position: ...
    @property
    def rows(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def files(self) -> Sequence[LoadFile]: ...
    @property
    def whole(self) -> bool:
        """Whether `files` are one whole task of a table with `snapshot: true` or `write: replace`: rows that are missing go. Of
        such a table a load that is not whole holds no rows, and only moves the position."""
        ...

    @property
    def replaces(self) -> Position | None:
        """None, but for the first load of `anchovy replay`: where the target has to stand for its table to be made anew, with
        these rows, in the same transaction. Only given to an uploader that says `can_replace`."""
        ...


class PositionMoved(RetryableError):
    """The target does not stand where the load begins (another uploader was faster): the engine looks again and plans anew."""


Counts = Mapping[str, int]
"""What a load did: `inserted`, `changed`, `unchanged`, `late`, `expired`; absent means 0."""
