"""The folders of a local datastore: reached step by step, so that no link is followed; made so that a power cut leaves them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from anchovies.store.disk import Disk

DIR = os.O_RDONLY | os.O_DIRECTORY
MOST_KNOWN = 10_000  # folders; those that are forgotten are only fsynced once more


class Folders:
    """Everything below `root` by its descriptors. Thread-safe."""

    def __init__(self, root: str, disk: Disk) -> None:
        self.root = root
        self._disk = disk
        self._durable: set[str] = set()
        self._private = False

    @contextmanager
    def at(self, parts: list[str], *, make: bool = False) -> Iterator[int]:
        """The folder's descriptor. `make`: missing folders are made."""
        held = [self._open_root(make)]
        try:
            for i, name in enumerate(parts):
                held.append(self._step(held[-1], name, "/".join(parts[: i + 1]), make))
            yield held[-1]
        finally:
            for fd in reversed(held):
                self.close(fd)

    def harden(self, parts: list[str], *, force: bool = False) -> None:
        """Make the folder's way up to the root durable, once a process: whoever made it may not have come to it. What lies in
        the folder itself is fsynced by whoever put it there, and with `force`."""
        if force:
            self._sync(parts)
        for i in range(len(parts), 0, -1):
            if "/".join(parts[:i]) not in self._durable:
                self._sync(parts[: i - 1])  # a folder is there for sure when the one that it is in was fsynced
        if len(self._durable) >= MOST_KNOWN:  # a service makes a folder with each batch that commits
            self._durable.clear()
        self._durable.update("/".join(parts[:i]) for i in range(1, len(parts) + 1))

    def _sync(self, parts: list[str]) -> None:
        with self.at(parts) as fd:
            self._disk.fsync(fd)

    def modes(self) -> tuple[int, int]:
        """Of files and folders: a private root makes private things, else the umask decides."""
        return (0o600, 0o700) if self._private else (0o666, 0o777)

    def close(self, fd: int) -> None:
        """Of a folder, or of a file that was only read: there is nothing to lose."""
        with suppress(OSError):
            self._disk.close(fd)

    @contextmanager
    def inside(self, name: str, folder: int) -> Iterator[int]:
        """The descriptor of a folder in another one."""
        fd = self._disk.open(name, DIR, dir_fd=folder)
        try:
            yield fd
        finally:
            self.close(fd)

    def _step(self, fd: int, name: str, key: str, make: bool) -> int:
        try:
            return self._disk.open(name, DIR, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                raise
        if "/" not in key:
            self._harden_root()
        with suppress(FileExistsError):
            self._disk.mkdir(name, self.modes()[1], dir_fd=fd)
        self._durable.discard(key)
        return self._disk.open(name, DIR, dir_fd=fd)

    def _open_root(self, make: bool) -> int:
        try:
            fd = self._disk.open(self.root, DIR)
        except FileNotFoundError:
            if not make:
                raise
            self._make_root(self.root, 0o700)
            fd = self._disk.open(self.root, DIR)
        try:
            self._private = self._disk.fstat(fd).st_mode & 0o077 == 0
        except BaseException:
            self.close(fd)
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
        self._sync_path(parent)

    def _harden_root(self) -> None:
        """Before the first folder in the root: whoever made the root, and what it is in, may have been killed just then."""
        path = self.root
        while path != (parent := os.path.dirname(path)):
            path = parent
            with suppress(PermissionError):  # what we may not even list, nobody made for us
                self._sync_path(path)

    def _sync_path(self, path: str) -> None:
        fd = self._disk.open(path, DIR)
        try:
            self._disk.fsync(fd)
        finally:
            self.close(fd)
