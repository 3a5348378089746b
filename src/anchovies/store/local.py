"""A folder as a datastore: an acknowledged write survives a power cut, and no key leads out of the folder."""

from __future__ import annotations

import errno
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, TypeAlias

from anchovies.core.errors import AlreadyExists, NotFound
from anchovies.core.ids import Ids, SystemIds
from anchovies.store.base import Entry, OsLock, Store
from anchovies.store.disk import Disk, translate
from anchovies.store.memory import check_key

TMP = ".tmp"
_DIR = os.O_RDONLY | os.O_DIRECTORY
_CHUNK = 1 << 20
Parts: TypeAlias = list[str]


class LocalStore(Store):
    """Objects are files below `root`. A write goes to `.tmp/<nonce>` first, is fsynced there, and gets its name at the end.

    Thread-safe. No symbolic link below `root` is followed.
    """

    def __init__(self, root: str, *, ids: Ids | None = None, disk: Disk | None = None) -> None:
        self.root = os.path.realpath(root)
        self.url = self.root
        self._ids = ids or SystemIds()
        self._disk = disk or Disk()
        self._turn = threading.Lock()
        self._durable: set[str] = set()
        self._private = False

    # --- the interface ---

    def create(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=False)

    def put(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=True)

    def get(self, key: str) -> bytes:
        parts = check_key(key)
        try:
            with self._folder(parts[:-1]) as folder, self._opened(parts[-1], os.O_RDONLY | os.O_NONBLOCK, folder) as fd:
                return self._read_all(fd)
        except FileNotFoundError:
            raise NotFound(f"there is no {key} in {self.url}", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "read") from e

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        head = prefix.rpartition("/")[0]
        parts = check_key(head) if head else []
        try:
            yield from self._walk(parts, prefix, start_after)
        except FileNotFoundError:
            return
        except OSError as e:
            raise translate(e, self._path(prefix), "list") from e

    def delete(self, key: str) -> None:
        parts = check_key(key)
        try:
            with self._folder(parts[:-1]) as folder:
                self._disk.unlink(parts[-1], dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as e:
            raise translate(e, self._path(key), "delete") from e

    def settle(self, key: str) -> None:
        parts = check_key(key)[:-1]
        try:
            self._harden(parts, force=True)
        except OSError as e:
            raise translate(e, self._path(key), "make durable", landed=True) from e

    def try_lock(self, key: str) -> OsLock:
        parts = check_key(key)
        try:
            with self._folder(parts[:-1], make=True) as folder:
                fd = self._disk.open(parts[-1], os.O_RDWR | os.O_CREAT, self._modes()[0], dir_fd=folder)
            try:
                self._disk.flock(fd)
            except BaseException:
                self._close(fd)
                raise
        except BlockingIOError:
            raise AlreadyExists(f"{key} is locked by another process", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "lock") from e
        return FileLock(self._disk, fd)

    def local_path(self, key: str) -> str | None:
        """The file's path; it was reached without following a link a moment ago. None when there is no such file."""
        parts = check_key(key)
        try:
            with self._folder(parts[:-1]) as folder:
                plain = stat.S_ISREG(self._disk.stat(parts[-1], dir_fd=folder).st_mode)
        except OSError:
            return None
        return self._path(key) if plain else None

    # --- writing ---

    def _store(self, key: str, data: bytes, *, replace: bool) -> None:
        parts = check_key(key)
        landed = False
        try:
            with self._folder([TMP], make=True) as tmp, self._folder(parts[:-1], make=True) as folder:
                nonce = self._ids.nonce()
                try:
                    self._write_temp(nonce, data, tmp)
                    landed = True
                    self._name(nonce, tmp, parts[-1], folder, replace)
                    self._disk.fsync(folder)
                finally:
                    with suppress(OSError):  # after a rename it is gone already
                        self._disk.unlink(nonce, dir_fd=tmp)
            self._harden(parts[:-1])
        except FileExistsError:
            raise AlreadyExists(f"{key} exists", key=key) from None
        except OSError as e:
            raise translate(e, self._path(key), "write", landed=landed) from e

    def _name(self, nonce: str, tmp: int, name: str, folder: int, replace: bool) -> None:
        if replace:
            self._disk.rename(nonce, name, src_dir_fd=tmp, dst_dir_fd=folder)
        else:
            self._disk.link(nonce, name, src_dir_fd=tmp, dst_dir_fd=folder)

    def _write_temp(self, nonce: str, data: bytes, tmp: int) -> None:
        """Written, fsynced, closed, each checked. No fsync is tried twice: the kernel forgot what it could not write."""
        fd = self._disk.open(nonce, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._modes()[0], dir_fd=tmp)
        try:
            left = memoryview(data)
            while left:
                left = left[self._disk.write(fd, left) :]
            self._disk.fsync(fd)
        except BaseException:
            self._close(fd)
            raise
        self._disk.close(fd)

    def _harden(self, parts: Parts, *, force: bool = False) -> None:
        """Fsync the folder's way up to the root, once a process: whoever made these folders may not have come to it."""
        for i in range(len(parts), -1, -1):
            here = "/".join(parts[:i])
            if here in self._durable and not (force and i == len(parts)):
                continue
            with self._folder(parts[:i]) as fd:
                self._disk.fsync(fd)
        self._durable.update("/".join(parts[:i]) for i in range(len(parts) + 1))

    # --- folders ---

    @contextmanager
    def _folder(self, parts: Parts, *, make: bool = False) -> Iterator[int]:
        """The folder's descriptor, reached step by step so that no link is followed. `make`: missing folders are made."""
        held = [self._open_root(make)]
        try:
            for i, name in enumerate(parts):
                held.append(self._step(held[-1], name, "/".join(parts[: i + 1]), make))
            yield held[-1]
        finally:
            for fd in reversed(held):
                self._close(fd)

    def _close(self, fd: int) -> None:
        """Of a folder, or of a file that was only read: there is nothing to lose."""
        with suppress(OSError):
            self._disk.close(fd)

    def _step(self, fd: int, name: str, key: str, make: bool) -> int:
        try:
            return self._disk.open(name, _DIR, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):
            self._disk.mkdir(name, self._modes()[1], dir_fd=fd)
        self._durable.discard(key)
        return self._disk.open(name, _DIR, dir_fd=fd)

    def _open_root(self, make: bool) -> int:
        try:
            fd = self._disk.open(self.root, _DIR)
        except FileNotFoundError:
            if not make:
                raise
            self._make_root(self.root, 0o700)
            fd = self._disk.open(self.root, _DIR)
        try:
            self._private = self._disk.fstat(fd).st_mode & 0o077 == 0
        except BaseException:
            self._close(fd)
            raise
        return fd

    def _make_root(self, path: str, mode: int) -> None:
        """`mkdir -p`, with each new level made durable in the one above."""
        parent = os.path.dirname(path)
        try:
            self._disk.mkdir(path, mode)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_root(parent, 0o777)
            self._make_root(path, mode)
            return
        fd = self._disk.open(parent, _DIR)
        try:
            self._disk.fsync(fd)
        finally:
            self._close(fd)

    def _modes(self) -> tuple[int, int]:
        """Of files and folders: a private root makes private things, else the umask decides."""
        return (0o600, 0o700) if self._private else (0o666, 0o777)

    # --- reading ---

    @contextmanager
    def _opened(self, name: str, flags: int, folder: int) -> Iterator[int]:
        fd = self._disk.open(name, flags, dir_fd=folder)
        try:
            if not stat.S_ISREG(self._disk.fstat(fd).st_mode):
                raise OSError(errno.EISDIR, "not a plain file")
            yield fd
        finally:
            self._close(fd)

    def _read_all(self, fd: int) -> bytes:
        chunks = []
        while chunk := self._disk.read(fd, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)

    def _walk(self, parts: Parts, prefix: str, start_after: str) -> Iterator[Entry]:
        """Files below `parts` in key order, a folder at a time. Folders that cannot hold what is asked for are not opened."""
        with self._folder(parts) as folder:
            found = {name: self._stat(name, folder) for name in self._disk.listdir(folder)}
        base = "".join(f"{p}/" for p in parts)
        folders = {f"{name}/" for name, s in found.items() if s and stat.S_ISDIR(s.st_mode) and (parts or name != TMP)}
        files = {name for name, s in found.items() if s and stat.S_ISREG(s.st_mode)}
        for name in sorted(folders | files):
            key = base + name
            if name in folders:
                if (key.startswith(prefix) or prefix.startswith(key)) and (key > start_after or start_after.startswith(key)):
                    with suppress(FileNotFoundError):
                        yield from self._walk([*parts, name[:-1]], prefix, start_after)
            elif key.startswith(prefix) and key > start_after:
                s = found[name]
                yield Entry(key, s.st_size if s else 0, s.st_mtime if s else 0.0)

    def _stat(self, name: str, folder: int) -> os.stat_result | None:
        try:
            return self._disk.stat(name, dir_fd=folder)
        except FileNotFoundError:
            return None

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


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
            self._disk.close(fd)

    @staticmethod
    def _forked() -> None:
        for lock in list(FileLock._held):
            lock.release()


os.register_at_fork(after_in_child=FileLock._forked)
