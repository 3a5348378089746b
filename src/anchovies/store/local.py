"""A folder as a datastore: an acknowledged write survives a power cut, and no key leads out of the folder."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

from anchovies.core.errors import AlreadyExists, ConfigError, NotFound
from anchovies.core.ids import Ids, SystemIds
from anchovies.store.base import Entry, OsLock, Store
from anchovies.store.disk import Disk, translate
from anchovies.store.folders import Folders
from anchovies.store.memory import check_key
from anchovies.store.temps import BYTES, Temps

TMP = ".tmp"
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK
#: what `link` says where there are no hard links: FAT, exFAT, SMB, some FUSE file systems
_NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK))
Parts = list[str]


class LocalStore(Store):
    """Objects are files below `root`. A write goes to `.tmp/<nonce>` first, is fsynced there, and gets its name at the end.

    `create` gives the name by a hard link. Where the file system has none, what it creates is a folder that holds the bytes:
    no rename replaces a folder that is not empty. Each process finds out by trying; both forms are read everywhere.
    Thread-safe. No symbolic link below `root` is followed.
    """

    def __init__(self, root: str, *, ids: Ids | None = None, disk: Disk | None = None) -> None:
        self.root = os.path.realpath(root)
        self.url = self.root
        self._disk = disk or Disk()
        self._folders = Folders(self.root, self._disk)
        self._temps = Temps(self._folders, self._disk, ids or SystemIds())
        self._links = True  # until the file system says that it has none

    # --- the interface ---

    def create(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=False)

    def put(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=True)

    def get(self, key: str) -> bytes:
        parts = _parts(key)
        try:
            with self._folders.at(parts[:-1]) as folder, self._opened(parts[-1], folder) as fd:
                return self._read_all(fd)
        except FileNotFoundError:
            raise NotFound(f"there is no {key} in {self.url}", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "read") from e

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        head = prefix.rpartition("/")[0]
        parts = _parts(head) if head else []
        try:
            yield from self._walk(parts, prefix, start_after)
        except FileNotFoundError:
            return
        except OSError as e:
            raise translate(e, self._path(prefix), "list") from e

    def delete(self, key: str) -> None:
        parts = _parts(key)
        try:
            with self._folders.at(parts[:-1]) as folder:
                self._remove(parts[-1], folder)
        except FileNotFoundError:
            return
        except OSError as e:
            raise translate(e, self._path(key), "delete") from e

    def settle(self, key: str) -> None:
        parts = _parts(key)[:-1]
        try:
            self._folders.harden(parts, force=True)
        except OSError as e:
            raise translate(e, self._path(key), "make durable", landed=True) from e

    def try_lock(self, key: str) -> OsLock:
        parts = _parts(key)
        try:
            with self._folders.at(parts[:-1], make=True) as folder:
                fd = self._disk.open(parts[-1], os.O_RDWR | os.O_CREAT, self._folders.modes()[0], dir_fd=folder)
            try:
                self._disk.flock(fd)
            except BaseException:
                self._folders.close(fd)
                raise
        except BlockingIOError:
            raise AlreadyExists(f"{key} is locked by another process", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "lock") from e
        return FileLock(self._disk, fd)

    def local_path(self, key: str) -> str | None:
        """The file's path; it was reached without following a link a moment ago. None when there is no such file."""
        parts = _parts(key)
        try:
            with self._folders.at(parts[:-1]) as folder:
                mode = self._disk.stat(parts[-1], dir_fd=folder).st_mode
                inside = stat.S_ISDIR(mode) and self._object_in(parts[-1], folder) is not None
        except OSError:
            return None
        return self._path(f"{key}/{BYTES}" if inside else key) if inside or stat.S_ISREG(mode) else None

    def sweep(self) -> int:
        try:
            with self._folders.at([TMP]) as tmp:
                return self._temps.sweep(tmp)
        except FileNotFoundError:
            return 0
        except OSError as e:
            raise translate(e, self._path(TMP), "sweep") from e

    # --- writing ---

    def _store(self, key: str, data: bytes, *, replace: bool) -> None:
        parts = _parts(key)
        landed = False
        try:
            with (
                self._folders.at([TMP], make=True) as tmp,
                self._folders.at(parts[:-1], make=True) as folder,
                self._temps.file(data, tmp) as temp,
            ):
                landed = True
                (self._replace if replace else self._create)(temp, tmp, parts[-1], folder)
                self._disk.fsync(folder)
            self._folders.harden(parts[:-1])
        except FileExistsError:
            raise AlreadyExists(f"{key} exists", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "write", landed=landed) from e

    def _create(self, temp: str, tmp: int, name: str, folder: int) -> None:
        """Raises FileExistsError."""
        if self._links:
            try:
                return self._disk.link(temp, name, src_dir_fd=tmp, dst_dir_fd=folder)
            except OSError as e:
                if e.errno not in _NO_LINKS:
                    raise
        with self._temps.folder(temp, tmp) as made:
            try:
                self._disk.rename(made, name, src_dir_fd=tmp, dst_dir_fd=folder)
            except OSError as e:
                if e.errno in (errno.ENOTEMPTY, errno.ENOTDIR):  # a folder with the bytes of another, or a plain file
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                raise
        self._links = False

    def _replace(self, temp: str, tmp: int, name: str, folder: int) -> None:
        try:
            self._disk.rename(temp, name, src_dir_fd=tmp, dst_dir_fd=folder)
        except IsADirectoryError:
            if self._object_in(name, folder) is None:
                raise
            with self._folders.inside(name, folder) as fd:
                self._disk.rename(temp, BYTES, src_dir_fd=tmp, dst_dir_fd=fd)
                self._disk.fsync(fd)

    def _remove(self, name: str, folder: int) -> None:
        try:
            self._disk.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            if self._object_in(name, folder) is None:
                raise
            with self._folders.at([TMP], make=True) as tmp:
                self._temps.trash(name, folder, tmp)

    # --- reading ---

    @contextmanager
    def _opened(self, name: str, folder: int) -> Iterator[int]:
        """The descriptor of an object's bytes."""
        fd = self._disk.open(name, _READ, dir_fd=folder)
        try:
            mode = self._disk.fstat(fd).st_mode
            if stat.S_ISDIR(mode) and name != BYTES:
                with self._opened(BYTES, fd) as inner:
                    yield inner
                return
            if not stat.S_ISREG(mode):
                raise OSError(errno.EISDIR, "not a plain file")
            yield fd
        finally:
            self._folders.close(fd)

    def _read_all(self, fd: int) -> bytes:
        chunks = []
        while chunk := self._disk.read(fd, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)

    def _walk(self, parts: Parts, prefix: str, start_after: str) -> Iterator[Entry]:
        """Files below `parts` in key order, a folder at a time. Folders that cannot hold what is asked for are not opened."""
        base = "".join(f"{p}/" for p in parts)
        with self._folders.at(parts) as folder:
            near = [n for n in self._disk.listdir(folder) if _near(base + n, prefix) and n != BYTES and base + n != TMP]
            found = {name: s for n in near for name, s in self._seen(n, folder)}
        for name in sorted(found):
            key, s = base + name, found[name]
            if s is not None:
                if key.startswith(prefix) and key > start_after:
                    yield Entry(key, s.st_size, s.st_mtime)
            elif _near(key, prefix) and (key > start_after or start_after.startswith(key)):
                with suppress(FileNotFoundError):
                    yield from self._walk([*parts, name[:-1]], prefix, start_after)

    def _seen(self, name: str, folder: int) -> Iterator[tuple[str, os.stat_result | None]]:
        """An object as (name, stat), a folder as (name/, None), so that they sort as keys do; anything else is not ours."""
        with suppress(FileNotFoundError):
            s = self._disk.stat(name, dir_fd=folder)
            if stat.S_ISDIR(s.st_mode):
                inner = self._object_in(name, folder)
                yield (f"{name}/", None) if inner is None else (name, inner)
            elif stat.S_ISREG(s.st_mode):
                yield name, s

    def _object_in(self, name: str, folder: int) -> os.stat_result | None:
        """The stat of the bytes of an object that is a folder; None for other folders."""
        with self._folders.inside(name, folder) as fd, suppress(FileNotFoundError):
            s = self._disk.stat(BYTES, dir_fd=fd)
            return s if stat.S_ISREG(s.st_mode) else None
        return None

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


def _parts(key: str) -> Parts:
    """The components of a key. Raises ConfigError for those that are names of our own here."""
    parts = check_key(key)
    if parts[0] == TMP or BYTES in parts:
        raise ConfigError(f"{key!r} is not a key of a datastore in a folder", hint=f"{TMP} and {BYTES} are its own")
    return parts


def _near(key: str, prefix: str) -> bool:
    """Whether `key`, or something below it, may start with `prefix`."""
    return key.startswith(prefix) or prefix.startswith(key)


class FileLock:
    """A held flock. The operating system frees it when the process dies; children do not inherit it."""

    _held: ClassVar[weakref.WeakSet[FileLock]] = weakref.WeakSet()

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk = disk
        self._fd = fd
        FileLock._held.add(self)

    def release(self) -> None:
        FileLock._held.discard(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # somebody else in this process has closed it already, and then it is free
                self._disk.close(fd)

    @staticmethod
    def _forked() -> None:
        for lock in list(FileLock._held):
            lock.release()


os.register_at_fork(after_in_child=FileLock._forked)
