"""Files in a local folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from anchovies.plugins.files.place import FileInfo, join
from anchovies.sdk import ConfigError, Connection, SourceError, attr

CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderConnection(Connection):
    """A folder of this machine."""

    path: str = attr("the folder; every `path:` is below it", aliases=("uri", "url"))

    def open(self) -> None:
        if not self.root.is_dir():
            raise ConfigError(f"ACHVY_CNXN__PATH: there is no folder {self.root}", connection=self.id)

    @property
    def root(self) -> Path:
        return Path(self.path.removeprefix("file://")).expanduser().absolute()


class FolderPlace:
    """A FilePlace over one folder. A leading `/` of a path means that folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, folder: str) -> Iterator[FileInfo]:
        with _errors(folder), os.scandir(self._real(folder)) as entries:
            for entry in entries:
                try:
                    yield _info(join(folder, entry.name), entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # deleted since it was listed

    def stat(self, path: str) -> FileInfo:
        with _errors(path):
            return _info(path, os.lstat(self._real(path)))

    def open(self, info: FileInfo) -> FolderChunks:
        with _errors(info.path):
            return FolderChunks(info.path, info.size, os.open(self._real(info.path), _FLAGS))

    def _real(self, path: str) -> str:
        real = os.path.join(self._root, path.lstrip("/"))
        root = os.path.realpath(self._root)
        if os.path.commonpath((root, os.path.realpath(os.path.dirname(real)))) != root:
            raise SourceError(f"{path} leaves the folder of the connection through a link", file=path)
        return real


class FolderChunks:
    """The bytes of one local file, no more than it had when it was looked at: one that grows for ever has an end for us."""

    def __init__(self, path: str, size: int, fd: int) -> None:
        self._path, self._left, self._fd = path, size, fd
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self.close()
            raise SourceError(f"{path} is no regular file", file=path)

    def __iter__(self) -> Iterator[bytes]:
        with _errors(self._path):
            while chunk := os.read(self._fd, min(CHUNK, self._left)):
                self._left -= len(chunk)
                yield chunk

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _errors:
    """Says what the operating system refused, in our words."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
            return False
        if error.errno == errno.ELOOP:
            raise SourceError(f"{self._path} is a link; links are not followed", file=self._path) from None
        raise SourceError(f"{self._path}: {error.strerror}", hint="look at its owner and mode", file=self._path) from None


def _info(path: str, st: os.stat_result) -> FileInfo:
    kinds: dict[int, Literal["file", "folder", "link"]] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return FileInfo(path, st.st_size, st.st_mtime_ns, kinds.get(stat.S_IFMT(st.st_mode), "other"), st.st_ino)
