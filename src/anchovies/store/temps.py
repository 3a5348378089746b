"""What a write is before it has its name: a file in `.tmp`, locked by its writer.

The lock dies with its process. So whatever lies there unlocked was left over, and no age and no clock is needed to tell.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from anchovies.core.ids import Ids
from anchovies.store.disk import Disk
from anchovies.store.folders import DIR, Folders

BYTES = ".bytes"  # the file that holds the bytes of an object that is a folder
_TRIES = 10
_NO_LOCKS = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS))


class Temps:
    """Temporary files and folders. `tmp` is the descriptor of `.tmp` throughout."""

    def __init__(self, folders: Folders, disk: Disk, ids: Ids) -> None:
        self._folders, self._disk, self._ids = folders, disk, ids

    @contextmanager
    def file(self, data: bytes, tmp: int) -> Iterator[str]:
        """The name of a file with `data`, which is on the disk. At the end that name is gone."""
        name, fd = self._new_file(tmp)
        with ExitStack() as end:
            end.callback(self._drop, name, tmp)
            end.callback(self._folders.close, self._filled(fd, data))
            yield name

    def _drop(self, name: str, tmp: int) -> None:
        with suppress(OSError):  # after a rename it is gone already
            self._disk.unlink(name, dir_fd=tmp)

    def _new_file(self, tmp: int) -> tuple[str, int]:
        for _ in range(_TRIES):
            name = self._ids.nonce()
            with suppress(FileExistsError), ExitStack() as undo:
                fd = self._disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._folders.modes()[0], dir_fd=tmp)
                undo.callback(self._drop, name, tmp)
                undo.callback(self._folders.close, fd)
                if self._lock(fd):
                    undo.pop_all()
                    return name, fd
        raise _swept_away()

    def _lock(self, fd: int) -> bool:
        """Lock what we just made. False: somebody who sweeps was faster."""
        try:
            self._disk.flock(fd)
        except BlockingIOError:
            return False
        except OSError as e:
            if e.errno not in _NO_LOCKS:  # where there are no locks nobody sweeps either
                raise
        return self._disk.fstat(fd).st_nlink > 0

    def _filled(self, fd: int, data: bytes) -> int:
        """Written, fsynced, closed, each checked; what is returned keeps the lock. No fsync is tried twice: the kernel forgot
        what it could not write."""
        with ExitStack() as undo:
            undo.callback(self._folders.close, fd)
            lock = self._disk.dup(fd)
            undo.callback(self._folders.close, lock)
            left = memoryview(data)
            while left:
                left = left[self._disk.write(fd, left) :]
            self._disk.fsync(fd)
            undo.pop_all()
        try:
            self._disk.close(fd)
        except BaseException:
            self._folders.close(lock)
            raise
        return lock

    @contextmanager
    def folder(self, file: str, tmp: int) -> Iterator[str]:
        """The name of a folder that holds `file` as BYTES, on the disk. At the end that name is gone."""
        name, fd = self._new_folder(file, tmp)
        try:
            self._disk.rename(file, BYTES, src_dir_fd=tmp, dst_dir_fd=fd)
            self._disk.fsync(fd)
            yield name
        finally:
            self._folders.close(fd)
            self.remove(name, tmp)

    def _new_folder(self, file: str, tmp: int) -> tuple[str, int]:
        for n in range(_TRIES):
            name = f"{file}.{n}"
            self._disk.mkdir(name, self._folders.modes()[1], dir_fd=tmp)
            with suppress(FileNotFoundError), ExitStack() as undo:
                undo.callback(self.remove, name, tmp)
                fd = self._disk.open(name, DIR, dir_fd=tmp)
                undo.callback(self._folders.close, fd)
                if self._lock(fd):
                    undo.pop_all()
                    return name, fd
        raise _swept_away()

    def remove(self, name: str, tmp: int) -> None:
        """A folder and the bytes in it, if it is there still; as far as it can be removed."""
        with suppress(OSError):
            with self._folders.inside(name, tmp) as fd:
                self._empty(fd)
            self._disk.rmdir(name, dir_fd=tmp)

    def _empty(self, fd: int) -> None:
        with suppress(FileNotFoundError):
            self._disk.unlink(BYTES, dir_fd=fd)

    def trash(self, name: str, folder: int, tmp: int) -> None:
        """Take a folder away from where it is, at once, and remove it."""
        gone = self._ids.nonce()
        self._disk.rename(name, gone, src_dir_fd=folder, dst_dir_fd=tmp)
        self.remove(gone, tmp)

    def sweep(self, tmp: int) -> int:
        """Remove whatever nobody has locked; how many."""
        return sum(self._swept(name, tmp) for name in self._disk.listdir(tmp))

    def _swept(self, name: str, tmp: int) -> bool:
        try:
            fd = self._disk.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=tmp)
        except OSError:
            return False  # it has its name by now, or it is none of ours
        try:
            self._disk.flock(fd)
            return self._removed(name, fd, tmp)
        except OSError:
            return False  # its writer lives
        finally:
            self._folders.close(fd)

    def _removed(self, name: str, fd: int, tmp: int) -> bool:
        """With the lock held. What is not called `name` any more is an object by now: nobody renames it while we hold it."""
        held, there = self._disk.fstat(fd), self._disk.stat(name, dir_fd=tmp)
        if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
            return False
        if stat.S_ISDIR(held.st_mode):
            self._empty(fd)
            self._disk.rmdir(name, dir_fd=tmp)
        elif stat.S_ISREG(held.st_mode):
            self._disk.unlink(name, dir_fd=tmp)
        else:
            return False
        return True


def _swept_away() -> OSError:
    return OSError(errno.EAGAIN, "somebody sweeps whatever is written, faster than it can be locked")
