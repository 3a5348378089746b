"""The power goes at any moment: whatever the disk may hold then is a log that goes on, with all that was acknowledged.

The states come from the real system calls of real sessions (`anchovies.testing.powerloss`). Stores with one fsync left out must
be caught by the same judgement.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.errors import AnchovyError, CommitUnknown, NotFound, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.core.types import parse_type
from anchovies.store.base import Entry, OsLock, Store
from anchovies.store.buffers import buffer_named
from anchovies.store.datafile import read_file, write_file
from anchovies.store.disk import Disk
from anchovies.store.folders import Folders
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.lease import Lease
from anchovies.store.lease import read as read_lease
from anchovies.store.local import LocalStore
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Writer
from anchovies.store.tasklog import write_mirrors
from anchovies.testing.powerloss import TracingDisk, Tree, crash_states, lay_out

HOME = Home("u", "a")
ROOT = "deep/root"


class QuickDisk(Disk):
    """For looking at states: nothing of it has to last."""

    def fsync(self, fd: int) -> None:
        return


class Promising(Store):
    """Marks in the trace what was begun and what was promised."""

    def __init__(self, inner: Store, disk: TracingDisk) -> None:
        self.inner, self.disk, self.url = inner, disk, inner.url
        self._seen: dict[str, bytes] = {}

    def _write(self, verb: str, key: str, data: bytes | None, do: Callable[[], None]) -> None:
        self.disk.mark(("begun", key, data))
        do()
        if verb != "delete":  # a deleted object may come back
            self.disk.mark(("promised", key, data))

    def create(self, key: str, data: bytes) -> None:
        self._write("create", key, data, lambda: self.inner.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._write("put", key, data, lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._write("delete", key, None, lambda: self.inner.delete(key))

    def get(self, key: str) -> bytes:
        self._seen[key] = self.inner.get(key)
        return self._seen[key]

    def settle(self, key: str) -> None:
        self.inner.settle(key)
        if key in self._seen:
            self.disk.mark(("promised", key, self._seen[key]))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return self.inner.list(prefix, start_after)

    def try_lock(self, key: str) -> OsLock | None:
        return self.inner.try_lock(key)


def log_on(store: Store, n: int, attempts: int = 2) -> Log:
    clock, ids = SystemClock(), SystemIds(n)
    writer = Writer(host="h", pid=1, session=f"s{n}", batch=1, version="0")
    log = Log(store, HOME, clock=clock, ids=ids, writer=writer, retry=Retry(clock, ids, attempts=attempts, base=0.0))
    log.load()
    return log


def commit(store: Store, log: Log, n: int) -> str:
    """One commit of a data file with `n` in it."""
    buffer = buffer_named("jsonl")
    data = f'{{"n":{n}}}\n'.encode() * 20
    file = write_file(store, log.new_data_key("t", buffer.ext), "t", data, rows=20, types={"n": parse_type("int")}, cuts=[0])
    return log.append(Change(files=[file], checkpoints=Checkpoints(set={"n": CheckpointValue(n, ["t"])}))).cid


def session(store: Promising, n: int, commits: int) -> None:
    """With lease, commits, snapshot, hint and a mirror, as the engine does it."""
    lease = Lease(store, HOME, SystemClock(), SystemIds(n), Writer(host="h", pid=1, session=f"s{n}", batch=1, version="0"))
    lease.acquire("fail")
    log = log_on(store, n)
    for i in range(commits):
        cid = commit(store, log, n + i)
        store.disk.mark(("committed", log.state.slot, cid))
    log.finish()
    write_mirrors(store, HOME, {}, {"n": {"value": n}})
    lease.release({"status": "ok"}, quiet=False)


def sessions(store: Promising) -> None:
    """A fresh home, then it goes on."""
    session(store, 100, 3)
    session(store, 200, 2)


def unsettled(store: Promising) -> None:
    """A writer that dies before its record is durable; a reader that acts on it; a writer that goes on from it."""
    session(store, 100, 1)
    log = log_on(store, 200)
    disk, real = store.disk, store.disk.link

    def dies(*args: Any, **kwds: Any) -> None:
        real(*args, **kwds)
        raise OSError(errno.EIO, "the process ends here")

    disk.link = dies  # type: ignore[method-assign]
    with pytest.raises((CommitUnknown, StoreUnavailable)):
        store.create(HOME.slot(2), _record_of(log))
    disk.link = real  # type: ignore[method-assign]
    reader = Promising(LocalStore(store.url, disk=disk), disk)  # another process
    seen = list(Reader(reader, HOME).records(0, ""))
    assert len(seen) == 2
    disk.mark(("committed", 2, seen[1].cid))
    session(store, 300, 1)


def _record_of(log: Log) -> bytes:
    """What `log` would put into the next slot."""
    from anchovies.store.record import seal

    log._ready()
    change = Change(checkpoints=Checkpoints(set={"n": CheckpointValue(7, ["t"])}))
    return seal(log._place("commit", log._draft("commit", change)))


# --- the judgement ---


Lay = Callable[[dict[str, bytes]], Store]


class Judge:
    """What is wrong with a state. `lay`: where production code is let loose on it."""

    def __init__(self, lay: Lay) -> None:
        self._lay = lay
        self._read: dict[frozenset[tuple[str, bytes]], set[tuple[int, str]] | str] = {}

    def __call__(self, marks: list[Any], tree: Tree) -> str | None:
        objects = {p.removeprefix(f"{ROOT}/").removesuffix("/.bytes"): data for p, data in tree.items()}
        may: dict[str, set[bytes | None]] = {}
        for what, key, data in marks:
            if what == "begun":
                may.setdefault(key, {None}).add(data)
            elif what == "promised":
                may[key] = {data}
        for key in may.keys() | (objects.keys() - {HOME.lock}):
            if objects.get(key) not in may.get(key, {None}):
                known = {d for _, k, d in marks if k == key}
                return f"{'lost' if key not in objects else 'torn' if objects[key] not in known else 'old'}: {key}"
        read = self._reading(objects)
        committed = {(slot, cid) for what, slot, cid in marks if what == "committed"}
        if isinstance(read, str):
            return read
        return None if committed <= read else "a commit is lost, or another took its slot"

    def _reading(self, objects: dict[str, bytes]) -> set[tuple[int, str]] | str:
        """The records that production code finds there, and goes on from; or what is wrong."""
        key = frozenset(objects.items())
        if key not in self._read:
            self._read[key] = self._goes_on(self._lay(objects))
        return self._read[key]

    def _goes_on(self, store: Store) -> set[tuple[int, str]] | str:
        try:
            records = list(Reader(store, HOME).records(0, ""))
            for record in records:
                for file in record.change.files:
                    read_file(store, file)
            read_lease(store, HOME)
            log = log_on(store, 900)
            if log.state.slot != len(records):
                return "the snapshot and the log do not agree"
            commit(store, log, 900)
            log.finish()
            if log_on(store, 901).state.slot != len(records) + 1:
                return "it does not go on"
        except AnchovyError as e:
            return f"{type(e).__name__}: {e}"
        return {(r.slot, r.cid) for r in records}


def in_memory(objects: dict[str, bytes]) -> Store:
    store = MemoryStore()
    for key, data in objects.items():
        store.put(key, data)
    return store


def in_folders(tmp_path: Path) -> Lay:
    """Each state as a folder of its own, read by the store that wrote it."""
    numbers = itertools.count()

    def lay(objects: dict[str, bytes]) -> Store:
        top = tmp_path / f"state{next(numbers)}"
        lay_out(objects, top)
        return LocalStore(str(top), disk=QuickDisk())

    return lay


def states(disk: TracingDisk, lay: Lay = in_memory, stop_at_first: bool = False) -> tuple[int, int, set[str]]:
    """(how many states, how many different ones, what is wrong with some)."""
    wrong, count, seen = set(), 0, set()
    judge = Judge(lay)
    for age, marks, tree in crash_states(disk):
        count += 1
        key = (age, frozenset(tree.items()))
        if key not in seen:
            seen.add(key)
            if found := judge(marks, tree):
                wrong.add(found)
        if wrong and stop_at_first:
            break
    return count, len(seen), wrong


def trace(
    tmp_path: Path, scenario: Callable[[Promising], None], disk_cls: type[TracingDisk], store_cls: type[LocalStore]
) -> TracingDisk:
    top = tmp_path / "top"
    top.mkdir()
    disk = disk_cls(top)
    scenario(Promising(store_cls(str(top / ROOT), disk=disk), disk))
    return disk


class Linkless(TracingDisk):
    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        raise OSError(errno.EPERM, "no links here")


@pytest.mark.parametrize(
    ("scenario", "disk_cls"),
    [(sessions, TracingDisk), (sessions, Linkless), (unsettled, TracingDisk)],
    ids=["sessions", "sessions-no-links", "unsettled"],
)
def test_every_state_is_legal(
    tmp_path: Path, notes: list[str], scenario: Callable[[Promising], None], disk_cls: type[TracingDisk]
) -> None:
    disk = trace(tmp_path, scenario, disk_cls, LocalStore)
    count, different, wrong = states(disk, in_folders(tmp_path))
    assert not wrong
    assert count > 200 and different > 50
    notes.append(
        f"power loss, {scenario.__name__} ({disk_cls.__name__}): {len(disk.events)} calls, {count:,} states, {different:,} different"
    )


class Killed(BaseException):
    """kill -9: nothing of the process runs any more."""


class Mortal(TracingDisk):
    """Whoever uses it is killed before its call number `left` that changes something."""

    left = 0
    dead = False

    def _count(self) -> None:
        self.left -= 1
        self.dead = self.dead or self.left == 0
        if self.dead:
            raise Killed

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if self.dead or flags & os.O_CREAT:
            self._count()
        return super().open(path, flags, mode, dir_fd=dir_fd)

    def write(self, fd: int, data: memoryview) -> int:
        self._count()
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._count()
        super().fsync(fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        self._count()
        super().mkdir(name, mode, dir_fd=dir_fd)

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._count()
        super().link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def rename(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._count()
        super().rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self._count()
        super().unlink(name, dir_fd=dir_fd)


def killed_at(top: Path, nth: int) -> tuple[Mortal, bool]:
    """A fresh home whose first process is killed at its `nth` call, then a second session; was there an nth call?"""
    disk, killed = Mortal(top), False
    disk.left = nth
    for n in (100, 200):
        try:
            session(Promising(LocalStore(str(top / ROOT), disk=disk), disk), n, 1)
        except Killed:
            disk.bury()
            disk.dead, killed = False, True
    return disk, killed


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow, id="every-call"), pytest.param(7, id="some-calls")])
def test_the_power_goes_after_a_kill_and_another_session(tmp_path: Path, notes: list[str], step: int) -> None:
    total = kinds = nth = 0
    killed = True
    while killed:
        top = tmp_path / f"top{nth}"
        top.mkdir()
        disk, killed = killed_at(top, nth + 1)
        count, different, wrong = states(disk)
        assert not wrong, f"killed at call {nth + 1}: {wrong}"
        total, kinds, nth = total + count, kinds + different, nth + step
        shutil.rmtree(top)
    assert nth > 40
    notes.append(f"power loss after a kill at one of {nth} calls: {total:,} states, {kinds:,} different, all legal")


# --- the test of the test ---


class NoFileFsync(TracingDisk):
    def fsync(self, fd: int) -> None:
        if self._open[fd] in self.folders:
            super().fsync(fd)


class NoFolderFsync(TracingDisk):
    def fsync(self, fd: int) -> None:
        if self._open[fd] not in self.folders:
            super().fsync(fd)


class NoParentFsync(LocalStore):
    """New folders are not made durable in those above."""

    def __init__(self, root: str, *, disk: Disk) -> None:
        super().__init__(root, disk=disk)
        self._folders.harden = lambda parts, force=False: None  # type: ignore[method-assign]


class InPlace(LocalStore):
    """O_EXCL at the final name, then written."""

    def create(self, key: str, data: bytes) -> None:
        parts = key.split("/")
        folders: Folders = self._folders
        with folders.at(parts[:-1], make=True) as folder:
            fd = self._disk.open(parts[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            self._disk.write(fd, memoryview(data))
            self._disk.fsync(fd)
            self._disk.close(fd)
            self._disk.fsync(folder)
        folders.harden(parts[:-1])


class NamedTooEarly(LocalStore):
    """Acknowledged before the folder is on the disk."""

    def create(self, key: str, data: bytes) -> None:
        disk, self._disk.fsync = self._disk, lambda fd: None  # type: ignore[method-assign]
        try:
            super().create(key, data)
        finally:
            del disk.fsync  # type: ignore[method-assign]


class Unsettling(LocalStore):
    """A reader that acts on what it sees."""

    def settle(self, key: str) -> None:
        return


@pytest.mark.parametrize(
    ("scenario", "disk_cls", "store_cls", "found"),
    [
        (sessions, NoFileFsync, LocalStore, "torn"),
        (sessions, NoFolderFsync, LocalStore, "lost"),
        (sessions, TracingDisk, NoParentFsync, "lost"),
        (sessions, TracingDisk, InPlace, "torn"),
        (sessions, TracingDisk, NamedTooEarly, "lost|torn"),
    ],
    ids=["no-file-fsync", "no-folder-fsync", "no-parent-fsync", "in-place", "named-too-early"],
)
def test_a_broken_store_is_caught(
    tmp_path: Path,
    scenario: Callable[[Promising], None],
    disk_cls: type[TracingDisk],
    store_cls: type[LocalStore],
    found: str,
) -> None:
    disk = trace(tmp_path, scenario, disk_cls, store_cls)
    *_, wrong = states(disk, stop_at_first=True)
    assert wrong and any(w.split(":")[0] in found.split("|") for w in wrong), wrong


def test_a_reader_that_does_not_settle_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "settle", Unsettling.settle)
    disk = trace(tmp_path, unsettled, TracingDisk, LocalStore)
    *_, wrong = states(disk, stop_at_first=True)
    assert wrong


def test_a_session_that_does_not_look_after_its_root_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made the root was killed before it was durable."""
    monkeypatch.setattr(Folders, "_harden_root", lambda self: None)
    found = set()
    for nth in range(1, 8):
        top = tmp_path / f"top{nth}"
        top.mkdir()
        found |= states(killed_at(top, nth)[0], stop_at_first=True)[2]
    assert any(w.startswith("lost") for w in found)


def test_nothing_at_all_is_a_state(tmp_path: Path) -> None:
    disk = trace(tmp_path, sessions, TracingDisk, LocalStore)
    assert next(crash_states(disk)) == (0, [], {})
    with pytest.raises(NotFound):
        LocalStore(str(tmp_path / "none")).get(HOME.slot(1))
