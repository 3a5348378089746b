"""`cache=True`: a stream in a private temporary file, so that the next stage begins after the one before it has ended.

The file has no name in any folder (it is unlinked as it is made), so nothing is left of it, whatever is killed. Rows lie in it as
Arrow, marks as plain values. What Arrow cannot hold, rows that were rejected, stays in memory: no code is ever read.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from anchovies.core.errors import FatalError
from anchovies.engine.actions import Ack, DiscardUnit, PutLedger, Rejected, Said, SetCheckpoint
from anchovies.engine.calls import close
from anchovies.engine.channel import POLL
from anchovies.engine.gather import Piece

if TYPE_CHECKING:
    from anchovies.engine.fanin import Downstream

_HEAD = struct.Struct("<QQ")  # bytes of the rows, bytes of what goes with them


class Spool:
    """Put everything, then `replay` it once. `what`: whose stream it is; `also`: the type of what goes with rows. Raises
    FatalError where the disk is full."""

    def __init__(self, what: str, also: Any = bool) -> None:
        self._what = what
        self._pack, self._unpack = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(also)
        self.rows = self.size = 0
        with self._said():
            self._file = tempfile.TemporaryFile(prefix="anchovies-", buffering=0)  # noqa: SIM115 `close` closes it

    def put(self, batch: pa.RecordBatch | None, also: Any) -> None:
        """Rows, and what goes with them."""
        rows = _packed(batch) if batch is not None else b""
        rest = self._pack.encode(also)
        with self._said():
            for part in (_HEAD.pack(len(rows), len(rest)), rows, rest):
                left = memoryview(part)
                while left:
                    left = left[os.write(self._file.fileno(), left) :]
        if batch is not None:
            self.rows += batch.num_rows
            self.size += batch.nbytes

    def replay(self) -> Iterator[tuple[pa.RecordBatch | None, Any]]:
        """Everything that was put, in its order."""
        with self._said():
            self._file.seek(0)
        while head := self._read(_HEAD.size):
            rows, rest = _HEAD.unpack(head)
            batch = pa.ipc.open_stream(pa.py_buffer(self._read(rows))).read_next_batch() if rows else None
            yield batch, self._unpack.decode(self._read(rest))

    def _read(self, size: int) -> bytes:
        parts = []
        with self._said():
            while size and (part := self._file.read(size)):
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def _said(self) -> _Said:
        return _Said(self._what)


class _Said:
    """What the operating system refused, in our words."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            where = error.filename or tempfile.gettempdir()
            raise FatalError(
                f"cache=True of {self._what}: the temporary folder {where} took no more: {error.strerror or error}",
                hint="make room there, name another folder with TMPDIR, or leave cache=True out",
            ) from None


def _packed(batch: pa.RecordBatch) -> memoryview:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(out.getvalue())


def spooled(pieces: Iterator[Piece], what: str, check: Callable[[], None], most_rows: int | None = None) -> Iterator[Piece]:
    """What a source gives, once it has ended; where it fails, what it gave, then its error. `most_rows`: more are not wanted."""
    spool = Spool(what, _Marks)
    bad: list[Rejected] = []
    error: Exception | None = None
    try:
        while most_rows is None or spool.rows < most_rows:
            check()
            try:
                piece = next(pieces, None)
            except Exception as e:
                error = e
                break
            if piece is None:
                break
            spool.put(piece.batch, [(offset, [_put_by(a, bad) for a in actions]) for offset, actions in piece.marks])
        for batch, marks in spool.replay():
            yield Piece(batch, tuple((o, tuple(bad[a] if isinstance(a, int) else a for a in actions)) for o, actions in marks))
        if error is not None:
            raise error
    finally:
        spool.close()
        close(pieces)


_Marks = list[tuple[int, list[SetCheckpoint | PutLedger | Ack | Said | DiscardUnit | int]]]


def _put_by(action: object, bad: list[Rejected]) -> object:
    """The action itself; the number of one that has to stay in memory."""
    if not isinstance(action, Rejected):
        return action
    bad.append(action)
    return len(bad) - 1


class SpoolChannel:
    """A `Channel` through a file: whoever puts never waits, whoever takes waits for the end of all. `end`: the item that says so;
    `mark`: the one that stands for a mark."""

    def __init__(self, what: str, end: object, mark: object) -> None:
        self._spool = Spool(what)
        self._end, self._mark = end, mark
        self._turn = threading.Condition()
        self._whole = self._closed = False
        self._items: Iterator[Any] | None = None
        self.held = 0  # bytes in memory

    def put(self, item: Any, size: int, check: Callable[[], None]) -> bool:
        """As in a `Channel`."""
        check()
        with self._turn:
            if self._closed:
                return False
            if item is self._end:
                self._whole = True
                self._turn.notify_all()
            else:
                mark = item is self._mark
                self._spool.put(None if mark else item, mark)
            return True

    def wait(self, check: Callable[[], None]) -> None:
        """Until all of it is there."""
        with self._turn:
            while not self._whole:
                self._turn.wait(POLL)
                check()

    def take(self, check: Callable[[], None]) -> Any:
        """As in a `Channel`."""
        self.wait(check)
        check()
        if self._items is None:
            self._items = iter(self._spool.replay())
        batch, mark = next(self._items, (None, None))
        if batch is not None:
            return batch
        return self._mark if mark else self._end

    def close(self) -> list[Any]:
        """As in a `Channel`; the file is gone."""
        with self._turn:
            self._closed = True
            self._spool.close()
            return []


class Later:
    """What stands before a table whose chain says `cache=True`: its rows go on once the chain has ended."""

    def __init__(self, below: Downstream, what: str) -> None:
        self._below = below
        self._spool = Spool(what, bool | int)
        self._bad: list[Rejected] = []

    @property
    def reading(self) -> Mapping[str, Any]:
        return self._below.reading

    def shaped(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        return self._below.shaped(pieces)

    def take(self, batch: pa.RecordBatch) -> None:
        self._spool.put(batch, False)

    def reject(self, bad: Rejected) -> None:
        self._bad.append(bad)
        self._spool.put(None, len(self._bad) - 1)

    def mark(self) -> None:
        self._spool.put(None, True)

    def barrier(self) -> None:
        raise AssertionError("a flow with a cache commits at its end")

    def leave(self, *, well: bool) -> None:
        """The chain has ended: now everything in its order. Where it failed, its flow has failed."""
        try:
            for batch, also in self._spool.replay() if well else ():
                if batch is not None:
                    self._below.take(batch)
                elif also is True:
                    self._below.mark()
                else:
                    self._below.reject(self._bad[also])
        finally:
            self._spool.close()
            self._below.leave(well=well)
