"""The files of an SFTP server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from anchovies.plugins.files import FileInfo
from anchovies.plugins.files.place import Kind, join
from anchovies.plugins.sftp.connection import SftpConnection
from anchovies.plugins.sftp.loop import await_result, bounded
from anchovies.sdk import AnchovyError, RetryableError, SourceError

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
CHUNK = 2 << 20  # bytes of one read, which asyncssh cuts into parallel requests
AHEAD = 4  # reads under way: at most 8 MiB a file wait in memory


class SftpPlace:
    """A FilePlace over an SFTP connection. Paths are below the folder of the URI; without one, as the server takes them."""

    def __init__(self, cnxn: SftpConnection) -> None:
        self._cnxn = cnxn
        self._base = cnxn.address.base

    def entries(self, folder: str) -> Iterable[FileInfo]:
        """Every entry, as the server names it; `find` looks at the names before any is used."""
        found = self._call(_scan(self._cnxn.client(), self._real(folder) or "."), folder)
        return (_info(join(folder, _text(n.filename)), n.attrs) for n in found)

    def stat(self, path: str) -> FileInfo:
        return _info(path, self._call(self._cnxn.client().lstat(self._real(path)), path))

    def open(self, info: FileInfo) -> SftpChunks:
        return SftpChunks(self, info, _open(self._cnxn.client(), self._real(info.path)))

    def _real(self, path: str) -> str:
        return f"{self._base}/{path.lstrip('/')}" if self._base else path

    def _call(self, work: Coroutine[Any, Any, T], path: str) -> T:
        return self.translated(self.submit(work), path)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return self._cnxn.loop.submit(asyncio.wait_for(work, bounded(self._cnxn.timeout)))

    def translated(self, future: Future[T], path: str) -> T:
        """The result, or the error in our words. A connection that is no use any more is dropped."""
        try:
            return await_result(future, self._cnxn.timeout, f"{path} of {self._cnxn.address.shown}")
        except AnchovyError as e:
            if isinstance(e, RetryableError):
                self._cnxn.drop()
            raise
        except Exception as e:
            raise self._said(e, path) from None

    def _said(self, e: Exception, path: str) -> Exception:
        import asyncssh

        where = self._cnxn.address.shown
        if isinstance(e, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath):
            return FileNotFoundError(path)
        if isinstance(e, asyncssh.SFTPPermissionDenied):
            return SourceError(
                f"{path}: {where} refuses to read it (permission denied)", hint="look at its owner and mode", file=path
            )
        if isinstance(e, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection) or not isinstance(e, asyncssh.SFTPError):
            self._cnxn.drop()
            return RetryableError(f"{path}: the connection to {where} was lost", file=path)
        return SourceError(f"{path}: {where} says: {str(e.reason)[:200]!a}", file=path)


class SftpChunks:
    """The bytes of one remote file: a few reads are always under way, so that the wire is never idle while rows are parsed."""

    def __init__(self, place: SftpPlace, info: FileInfo, opening: Coroutine[Any, Any, Any]) -> None:
        self._place, self._info = place, info
        self._opening = place.submit(opening)
        self._file: Any = None
        self._asked = 0
        self._reads: deque[Future[bytes]] = deque()

    def __iter__(self) -> Iterator[bytes]:
        self._file = self._place.translated(self._opening, self._info.path)
        at = 0
        while True:
            self._read_ahead()
            if not self._reads:
                return
            wanted = min(CHUNK, self._info.size - at)
            chunk = self._place.translated(self._reads.popleft(), self._info.path)
            if chunk:
                at += len(chunk)
                yield chunk
            if len(chunk) < wanted:
                return  # shorter than it was: whoever counts the bytes will say so

    def _read_ahead(self) -> None:
        while len(self._reads) < AHEAD and self._asked < self._info.size:
            size = min(CHUNK, self._info.size - self._asked)
            self._reads.append(self._place.submit(self._file.read(size, self._asked)))
            self._asked += size

    def close(self) -> None:
        for read in self._reads:
            read.cancel()
        self._reads.clear()
        if not self._opening.cancel() and self._opening.exception() is None:
            self._place.submit(self._opening.result().close())


async def _scan(client: asyncssh.SFTPClient, folder: str) -> list[asyncssh.SFTPName]:
    return [entry async for entry in client.scandir(folder)]


async def _open(client: asyncssh.SFTPClient, path: str) -> Any:
    return await client.open(path, "rb", encoding=None)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _info(path: str, attrs: asyncssh.SFTPAttrs) -> FileInfo:
    import asyncssh

    kinds: dict[int, Kind] = {
        asyncssh.FILEXFER_TYPE_REGULAR: "file",
        asyncssh.FILEXFER_TYPE_DIRECTORY: "folder",
        asyncssh.FILEXFER_TYPE_SYMLINK: "link",
    }
    mtime = (attrs.mtime or 0) * 1_000_000_000 + (attrs.mtime_ns or 0)
    return FileInfo(path, attrs.size or 0, mtime, kinds.get(attrs.type, "other"))
