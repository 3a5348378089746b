"""Every state that a power cut may leave of a folder, enumerated from the real trace of system calls.

The model is what POSIX promises and no more: the bytes of a file are there for sure only after its fsync, an entry of a folder
(create, link, unlink, mkdir, rename) only after the fsync of that folder. What was not synced by then may be there in any
combination; of bytes that were not synced nothing, the first half, as many zeros, or all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from anchovies.store.disk import Disk

Tree = dict[str, bytes]
Entries = dict[tuple[int, str], int | None]
FORMS = ("nothing", "half", "zeros", "all")
MOST_OPEN = 14


class Change(msgspec.Struct, frozen=True):
    """Entries of folders that change at one moment: (folder, name) → what it leads to. `by`: whose fsync keeps it."""

    entries: tuple[tuple[int, str, int | None], ...]
    by: int


class Write(msgspec.Struct, frozen=True):
    """Bytes at the end of a file."""

    node: int
    data: bytes


class Sync(msgspec.Struct, frozen=True):
    """An fsync of a file or a folder."""

    node: int


class Mark(msgspec.Struct, frozen=True):
    """Something that whoever recorded wants to remember at this place."""

    what: Any


Event = Change | Write | Sync | Mark


class TracingDisk(Disk):
    """Does what it is told below `top`, which exists and is empty, and writes it down in `events`.

    `top` is 0, everything else gets the next number when it is made. Nothing that is called `.tmp` is a way to an object, so
    what changes only there is left out.
    """

    def __init__(self, top: Path) -> None:
        self.top = str(top)
        self.events: list[Event] = []
        self.folders = {0}
        self._entries: Entries = {}
        self._open: dict[int, int] = {}
        self._hidden: set[int] = set()
        self._nodes = itertools.count(1)

    def mark(self, what: Any) -> None:
        self.events.append(Mark(what))

    def bury(self) -> None:
        """The process that used it is gone: the system closes what it had open."""
        while self._open:
            os.close(self._open.popitem()[0])

    def _at(self, path: str, dir_fd: int | None) -> tuple[int, str]:
        """(folder, name) of a path; folder -1 for what lies outside."""
        if dir_fd is not None:
            return self._open[dir_fd], path
        if path != self.top and not path.startswith(f"{self.top}/"):
            return -1, path
        folder, parts = 0, path.removeprefix(self.top).strip("/").split("/")
        for name in parts[:-1]:
            found = self._entries.get((folder, name))
            folder = -1 if found is None else found
        return folder, parts[-1]

    def _node(self, where: tuple[int, str]) -> int:
        if where == (0, "") or where[0] == -1:
            return where[0]
        found = self._entries[where]
        assert found is not None
        return found

    def _change(self, *entries: tuple[int, str, int | None]) -> None:
        """The last entry's folder is the one whose fsync counts."""
        self._entries.update({(folder, name): node for folder, name, node in entries})
        if any(folder not in self._hidden for folder, _, _ in entries):
            self.events.append(Change(entries, entries[-1][0]))

    def _made(self, where: tuple[int, str], folder: bool) -> None:
        node = next(self._nodes)
        if folder:
            self.folders.add(node)
        if folder and where[1] == ".tmp":
            self._entries[where] = node
            self._hidden.add(node)
        else:
            self._change((*where, node))

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = super().open(path, flags, mode, dir_fd=dir_fd)
        where = self._at(path, dir_fd)
        if flags & os.O_CREAT and self._entries.get(where) is None:
            self._made(where, folder=False)
        self._open[fd] = self._node(where)
        return fd

    def dup(self, fd: int) -> int:
        new = super().dup(fd)
        self._open[new] = self._open[fd]
        return new

    def close(self, fd: int) -> None:
        del self._open[fd]
        super().close(fd)

    def write(self, fd: int, data: memoryview) -> int:
        done = super().write(fd, data)
        self.events.append(Write(self._open[fd], bytes(data[:done])))
        return done

    def fsync(self, fd: int) -> None:
        self.events.append(Sync(self._open[fd]))  # the medium is not waited for: what it would hold is what is enumerated

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        super().mkdir(name, mode, dir_fd=dir_fd)
        self._made(self._at(name, dir_fd), folder=True)

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        super().link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._change((*self._at(dst, dst_dir_fd), self._node(self._at(src, src_dir_fd))))

    def rename(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        super().rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        old, new = self._at(src, src_dir_fd), self._at(dst, dst_dir_fd)
        self._change((*old, None), (*new, self._node(old)))

    def unlink(self, name: str, *, dir_fd: int) -> None:
        super().unlink(name, dir_fd=dir_fd)
        self._change((*self._at(name, dir_fd), None))

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        super().rmdir(name, dir_fd=dir_fd)
        self._change((*self._at(name, dir_fd), None))


class _Medium:
    """What is on the disk for sure, and what may be."""

    def __init__(self, folders: set[int]) -> None:
        self.folders = folders
        self.sure: Entries = {}
        self.open: list[Change] = []
        self.synced: dict[int, bytes] = {}
        self.tail: dict[int, bytes] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, Change):
            self.open.append(event)
        elif isinstance(event, Write):
            self.tail[event.node] = self.tail.get(event.node, b"") + event.data
        elif isinstance(event, Sync):
            for change in self.open:
                if change.by == event.node:
                    self.sure.update({(f, n): node for f, n, node in change.entries})
            self.open = [c for c in self.open if c.by != event.node]
            if event.node in self.tail:
                self.synced[event.node] = self.synced.get(event.node, b"") + self.tail.pop(event.node)

    def states(self) -> Iterator[Tree]:
        assert len(self.open) <= MOST_OPEN, f"{len(self.open)} changes wait for a fsync at once: 2 ** that many states"
        for picked in itertools.product((False, True), repeat=len(self.open)):
            entries = dict(self.sure)
            for change in itertools.compress(self.open, picked):
                entries.update({(f, n): node for f, n, node in change.entries})
            yield from self._contents(self._reached(entries))

    def _reached(self, entries: Entries) -> dict[str, int]:
        below: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), node in entries.items():
            if node is not None and name != ".tmp":
                below.setdefault(folder, []).append((name, node))
        files: dict[str, int] = {}
        todo = [("", 0)]
        while todo:
            path, folder = todo.pop()
            for name, node in below.get(folder, ()):
                if node in self.folders:
                    todo.append((f"{path}{name}/", node))
                else:
                    files[path + name] = node
        return files

    def _contents(self, files: dict[str, int]) -> Iterator[Tree]:
        loose = sorted({n for n in files.values() if n in self.tail})
        for forms in itertools.product(FORMS, repeat=len(loose)):
            form = dict(zip(loose, forms, strict=True))
            yield {path: self._bytes(node, form.get(node, "nothing")) for path, node in files.items()}

    def _bytes(self, node: int, form: str) -> bytes:
        if node not in self.tail:
            return self.synced.get(node, b"")
        tail = self.tail[node]
        kept = {"nothing": b"", "half": tail[: len(tail) // 2], "zeros": bytes(len(tail)), "all": tail}[form]
        return self.synced.get(node, b"") + kept


def crash_states(disk: TracingDisk) -> Iterator[tuple[int, list[Any], Tree]]:
    """(how many marks there were, those marks, path → bytes below `top`) for a power cut after each call."""
    medium, marks = _Medium(disk.folders), list[Any]()
    yield 0, marks, {}
    for event in disk.events:
        if isinstance(event, Mark):
            marks.append(event.what)
        medium.see(event)
        for tree in medium.states():
            yield len(marks), marks, tree


def lay_out(tree: Tree, top: Path) -> None:
    """Make a state real, in an empty folder."""
    for path, data in tree.items():
        file = top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
