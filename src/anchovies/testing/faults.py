"""Datastores and disks that fail at the n-th operation, and keep a record of all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, TypeVar

from anchovies.core.errors import AlreadyExists, StoreUnavailable
from anchovies.store.base import Entry, OsLock, Store
from anchovies.store.disk import Disk

T = TypeVar("T")
When = Literal["before", "after", "later"]
LAG = 3  # requests after which a late write lands


class FaultyStore(Store):
    """`inner`, but `times` operations from number `nth` (from 1) on raise StoreUnavailable, before or after their effect;
    `later`: what they write lands a few requests afterwards, or with `land()`.

    `ops` holds (verb, key) of all operations. Put `down = True` for a store that does not answer at all.
    """

    def __init__(self, inner: Store, nth: int = 0, when: When = "before", times: int = 1) -> None:
        self.inner = inner
        self.url = inner.url
        self.nth, self.when, self.times = nth, when, times
        self.down = False
        self.ops: list[tuple[str, str]] = []
        self._late: list[tuple[int, Callable[[], object]]] = []

    def land(self, upto: float = float("inf")) -> None:
        """Let what is due by operation `upto` take effect, in the order in which it was asked for."""
        while self._late and self._late[0][0] <= upto:
            with suppress(AlreadyExists):
                self._late.pop(0)[1]()

    @property
    def hit(self) -> bool:
        """Was there an n-th operation?"""
        return self.nth > 0 and len(self.ops) >= self.nth

    def _do(self, verb: str, key: str, do: Callable[[], T]) -> T:
        self.ops.append((verb, key))
        self.land(len(self.ops))
        fails = self.down or self.nth <= len(self.ops) < self.nth + self.times
        if fails and self.when == "later" and verb in ("create", "put", "delete"):
            self._late.append((len(self.ops) + LAG, do))
            raise StoreUnavailable(f"{verb} {key}: injected, lands later")
        if fails and (self.when == "before" or self.down):
            raise StoreUnavailable(f"{verb} {key}: injected before")
        try:
            done = do()
        except AlreadyExists:
            if not fails:
                raise
        if fails:
            raise StoreUnavailable(f"{verb} {key}: injected after")
        return done

    def create(self, key: str, data: bytes) -> None:
        self._do("create", key, lambda: self.inner.create(key, data))

    def get(self, key: str) -> bytes:
        return self._do("get", key, lambda: self.inner.get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return self._do("list", prefix, lambda: self.inner.list(prefix, start_after))

    def put(self, key: str, data: bytes) -> None:
        self._do("put", key, lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._do("delete", key, lambda: self.inner.delete(key))

    def settle(self, key: str) -> None:
        self._do("settle", key, lambda: self.inner.settle(key))

    def try_lock(self, key: str) -> OsLock | None:
        return self.inner.try_lock(key)


class FaultyDisk(Disk):
    """System calls by their order: `ops` is the trace of (call, path or descriptor's path), number `nth` raises OSError(`code`).

    `only`: count and fail just calls of that name. A short `write` of one byte at a time with `short=True`.
    """

    def __init__(self, nth: int = 0, code: int = errno.EIO, only: str | None = None, short: bool = False) -> None:
        self.nth, self.code, self.only, self.short = nth, code, only, short
        self.ops: list[tuple[str, str]] = []
        self.counted = 0
        self._paths: dict[int, str] = {}

    @property
    def hit(self) -> bool:
        return self.nth > 0 and self.counted >= self.nth

    @property
    def open_descriptors(self) -> int:
        return len(self._paths)

    def _note(self, call: str, path: str) -> None:
        self.ops.append((call, path))
        if self.only in (None, call):
            self.counted += 1
            if self.counted == self.nth:
                raise OSError(self.code, os.strerror(self.code))

    def _at(self, name: str, dir_fd: int | None) -> str:
        return name if dir_fd is None else f"{self._paths[dir_fd]}/{name}"

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = self._at(path, dir_fd)
        self._note("open", where)
        fd = super().open(path, flags, mode, dir_fd=dir_fd)
        self._paths[fd] = where
        return fd

    def close(self, fd: int) -> None:
        where = self._paths.pop(fd)  # before: another thread may get this number at once
        super().close(fd)  # a failing close has closed it all the same
        self._note("close", where)

    def dup(self, fd: int) -> int:
        self._note("dup", self._paths[fd])
        new = super().dup(fd)
        self._paths[new] = self._paths[fd]
        return new

    def read(self, fd: int, size: int) -> bytes:
        self._note("read", self._paths[fd])
        return super().read(fd, size)

    def write(self, fd: int, data: memoryview) -> int:
        self._note("write", self._paths[fd])
        return super().write(fd, data[:1] if self.short else data)

    def fsync(self, fd: int) -> None:
        self._note("fsync", self._paths[fd])
        super().fsync(fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        self._note("mkdir", self._at(name, dir_fd))
        super().mkdir(name, mode, dir_fd=dir_fd)

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        self._note("rmdir", self._at(name, dir_fd))
        super().rmdir(name, dir_fd=dir_fd)

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._note("link", self._at(dst, dst_dir_fd))
        super().link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def rename(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._note("rename", self._at(dst, dst_dir_fd))
        super().rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self._note("unlink", self._at(name, dir_fd))
        super().unlink(name, dir_fd=dir_fd)

    def fstat(self, fd: int) -> Any:
        self._note("fstat", self._paths[fd])
        return super().fstat(fd)

    def stat(self, name: str, *, dir_fd: int) -> Any:
        self._note("stat", self._at(name, dir_fd))
        return super().stat(name, dir_fd=dir_fd)

    def listdir(self, fd: int) -> list[str]:
        self._note("listdir", self._paths[fd])
        return super().listdir(fd)

    def flock(self, fd: int) -> None:
        self._note("flock", self._paths[fd])
        super().flock(fd)


class LinklessDisk(FaultyDisk):
    """A file system without hard links."""

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._note("link", self._at(dst, dst_dir_fd))
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
