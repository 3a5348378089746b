"""The seam to the operating system: each call of the local datastore is here, so that tests can fail and record it."""

from __future__ import annotations

import errno
import fcntl
import os

from anchovies.core.errors import AnchovyError, FatalError, StoreUnavailable

_FULL_FSYNC = getattr(fcntl, "F_FULLFSYNC", None)

_HINTS = {
    errno.ENOSPC: "the disk is full: free space there, then run it again",
    errno.EDQUOT: "the disk quota is used up: free space there, or have it raised, then run it again",
    errno.EROFS: "it is mounted read-only: mount it writable, or choose another place with --datastore",
    errno.EACCES: "give this user the right to read and write there, or choose another place with --datastore",
    errno.EPERM: "give this user the right to read and write there, or choose another place with --datastore",
    errno.ENAMETOOLONG: "the file system there does not take names that long: take shorter ids, or another place",
    errno.ELOOP: "there is a symbolic link inside the datastore, and none is followed: put a real folder there",
    errno.ENOTDIR: "there is a file or a symbolic link where a folder should be, and none is followed: put a real folder there",
    errno.EISDIR: "there is a folder where a file should be: move it away",
    errno.EXDEV: "the datastore must lie on one file system: another one is mounted inside it",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
    errno.ENFILE: "too many open files on this machine",
}


class Disk:
    """One method a system call. A failed one raises OSError, as the standard library does."""

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def dup(self, fd: int) -> int:
        return os.dup(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        if _FULL_FSYNC is not None:
            fcntl.fcntl(fd, _FULL_FSYNC)
        else:
            os.fsync(fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        os.rmdir(name, dir_fd=dir_fd)

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)

    def rename(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, name: str, *, dir_fd: int) -> os.stat_result:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    def listdir(self, fd: int) -> list[str]:
        return os.listdir(fd)

    def flock(self, fd: int) -> None:
        """Exclusive, without waiting: BlockingIOError when it is held."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def translate(e: OSError, path: str, doing: str, *, landed: bool = False) -> AnchovyError:
    """Our error for `e`. FatalError: nothing took effect. Where something may have (`landed`): StoreUnavailable."""
    hint = _HINTS.get(e.errno or 0)
    message = f"cannot {doing} {path}: {e.strerror or e}"
    if hint is None or landed:
        return StoreUnavailable(message, hint=hint or "look at the disk and the system's log", path=path)
    return FatalError(message, hint=f"{path}: {hint}", path=path)
