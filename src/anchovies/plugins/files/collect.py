"""New and changed files only: each is read whole and remembered, or dropped whole and reported."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anchovies.plugins.files.bad import Bad
from anchovies.plugins.files.place import Chunks, FileInfo, FilePlace
from anchovies.sdk import Ledger, RetryableError, SourceError, batch, context
from anchovies.sdk.faults import fault

if TYPE_CHECKING:
    import pyarrow as pa

ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt; doubles
Read = Callable[[Iterator[bytes], str], "Iterator[pa.RecordBatch | Bad]"]


class _Changed(RetryableError):
    """The file was not the same before and after it was read."""


def state_of(ledger: Ledger, info: FileInfo) -> str:
    """`new`, `changed` or `known`, by size and modification time."""
    entry = ledger.get(info.path)
    if not isinstance(entry, dict):
        return "new"
    return "known" if (entry.get("size"), entry.get("mtime")) == (info.size, info.mtime_ns) else "changed"


class Collector:
    """Reads the files of one table. `read` makes rows of the bytes of one file."""

    def __init__(self, place: FilePlace, tbl: str, read: Read) -> None:
        self._place, self._tbl, self._read = place, tbl, read
        self._ledger = context().ledger(tbl)
        self._failed: list[tuple[str, Exception]] = []
        self._lost = False  # the place does not answer any more: the files that are left are not even tried
        self._next: tuple[FileInfo, Chunks] | None = None  # opened while the one before is still being parsed

    def collect(self, found: Sequence[FileInfo]) -> Iterator[pa.RecordBatch]:
        """The rows of what is new or changed. Files that fail are left out; one SourceError at the end names them."""
        todo = [info for info in found if state_of(self._ledger, info) != "known"]
        try:
            for i, info in enumerate(todo):
                batch().check()
                if self._lost:
                    break
                yield from self._file(info, todo[i + 1] if i + 1 < len(todo) else None)
        finally:
            self._drop_next()
        if self._failed:
            raise self._report(len(todo))

    def _file(self, info: FileInfo, after: FileInfo | None) -> Iterator[pa.RecordBatch]:
        context().progress(position=info.path)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return (yield from self._once(info, after))
            except (RetryableError, SourceError, FileNotFoundError) as e:
                context().discard()
                if not isinstance(e, RetryableError) or attempt == ATTEMPTS:
                    self._failed.append((info.path, e))
                    self._lost = isinstance(e, RetryableError) and not isinstance(e, _Changed)
                    return
                self._drop_next()
                _pause(PAUSE * 2 ** (attempt - 1))

    def _once(self, info: FileInfo, after: FileInfo | None) -> Iterator[pa.RecordBatch]:
        fault("files.stat.before", RetryableError)
        before = self._place.stat(info.path)
        if before.kind != "file":
            raise SourceError(f"{info.path} is no regular file any more", file=info.path)
        chunks = _Counted(self._opened(before))
        rows = 0
        try:
            for b in self._read(chunks.watched(lambda: self._open_ahead(after)), info.path):
                if isinstance(b, Bad):
                    context().reject(b.row, b.reason, file=info.path, line=b.line, column=b.column)
                    rows += 1
                else:
                    rows += b.num_rows
                    yield b
        except SourceError:
            self._check_unchanged(before, None)  # a file that is being written is often broken: not its fault
            raise
        finally:
            chunks.close()
        self._check_unchanged(before, chunks.size)
        self._keep(before, chunks.sha256, rows)

    def _check_unchanged(self, before: FileInfo, size: int | None) -> None:
        after = self._place.stat(before.path)
        if after.version != before.version or size not in (None, before.size):
            raise _Changed(f"{before.path} changed while it was read", hint="it is read again in the next run", file=before.path)

    def _keep(self, info: FileInfo, sha256: str, rows: int) -> None:
        entry = self._ledger.get(info.path)
        if isinstance(entry, dict) and entry.get("sha256") == sha256:
            context().discard()  # touched, not changed
            rows = int(entry.get("rows", rows))
        else:
            context().receipt(info.path, rows=rows, bytes=info.size, sha256=sha256)
        self._ledger.put(info.path, {"size": info.size, "mtime": info.mtime_ns, "sha256": sha256, "rows": rows})

    def _opened(self, info: FileInfo) -> Chunks:
        if self._next and self._next[0].version == info.version and self._next[0].path == info.path:
            chunks, self._next = self._next[1], None
            return chunks
        self._drop_next()
        fault("files.open.before", RetryableError)
        return self._place.open(info)

    def _open_ahead(self, info: FileInfo | None) -> None:
        """All bytes of a file are here and its last blocks are being parsed: begin to fetch the next one."""
        if info is None or self._next:
            return
        try:
            self._next = (info, self._place.open(info))
        except (RetryableError, SourceError, FileNotFoundError):
            self._next = None  # its own turn will say what is wrong

    def _drop_next(self) -> None:
        if self._next:
            self._next[1].close()
            self._next = None

    def _report(self, of: int) -> Exception:
        path, first = self._failed[0]
        hint = getattr(first, "hint", None)
        if len(self._failed) == 1:
            return SourceError(_said(path, first), hint=hint, file=path, **_line(first))
        told = "; ".join(_said(p, e) for p, e in self._failed[:3])
        more = f"; and {len(self._failed) - 3:,} more" if len(self._failed) > 3 else ""
        return SourceError(f"{len(self._failed):,} of {of:,} files could not be read: {told}{more}", hint=hint, file=path)


def _said(path: str, e: Exception) -> str:
    if isinstance(e, FileNotFoundError):
        return f"{path} is not there any more"
    return str(e) if path in str(e) else f"{path}: {e}"


def _line(e: Exception) -> dict[str, Any]:
    where = getattr(e, "where", {})
    return {"line": where["line"]} if "line" in where else {}


class _Counted:
    """Counts and hashes the bytes of a file as they pass, and tells whoever watches."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    def watched(self, at_end: Callable[[], None]) -> Iterator[bytes]:
        for chunk in self._chunks:
            batch().check()
            self._hash.update(chunk)
            self.size += len(chunk)
            context().progress(bytes_read=len(chunk))
            fault("files.read.after", RetryableError)
            yield chunk
        at_end()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        self._chunks.close()


def _pause(seconds: float) -> None:
    """Wait, but wake up for whoever ends the batch."""
    never = threading.Event()
    while seconds > 0:
        batch().check()
        never.wait(min(seconds, 0.2))
        seconds -= 0.2
