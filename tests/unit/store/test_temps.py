"""What killed writers leave in `.tmp` is swept; what a living one has there is not, however old it looks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anchovies.core.errors import AlreadyExists, AnchovyError, StoreUnavailable
from anchovies.store.disk import Disk
from anchovies.store.local import TMP, LocalStore
from anchovies.store.memory import MemoryStore
from anchovies.store.temps import BYTES
from anchovies.testing.faults import FaultyDisk, LinklessDisk

BOTH = pytest.mark.parametrize("disk", [Disk, LinklessDisk], ids=["links", "no-links"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def left(root: Path) -> list[str]:
    return sorted(os.listdir(root / TMP))


DIES = """
import os, signal, sys
from anchovies.store.disk import Disk
from anchovies.store.local import LocalStore
from anchovies.testing.faults import LinklessDisk
base = {"links": Disk, "no-links": LinklessDisk}[sys.argv[2]]
class Dies(base):
    def fsync(self, fd):
        self.count = getattr(self, "count", 0) + 1
        if self.count == int(sys.argv[3]):
            os.kill(os.getpid(), int(sys.argv[4]))
        super().fsync(fd)
LocalStore(sys.argv[1], disk=Dies()).create("slot", b"x")
"""


def die(root: Path, form: str, nth: int, how: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DIES, str(root), form, str(nth), str(how)])


@pytest.mark.parametrize(("form", "nth"), [("links", 1), ("links", 2), ("no-links", 1), ("no-links", 2)])
def test_what_a_killed_writer_left_is_swept(root: Path, form: str, nth: int) -> None:
    store = LocalStore(str(root))
    store.put("x", b"x")
    assert die(root, form, nth, signal.SIGKILL).wait() == -signal.SIGKILL
    landed = [e.key for e in store.list("slot")]
    assert len(left(root)) == 1
    assert store.sweep() == 1
    assert left(root) == [] and store.sweep() == 0
    assert [e.key for e in store.list("slot")] == landed
    if landed:
        assert store.get("slot") == b"x"
    else:
        store.create("slot", b"x")


@pytest.mark.parametrize(("form", "nth"), [("links", 1), ("no-links", 1), ("no-links", 2)])
def test_a_writer_that_only_sleeps_goes_on(root: Path, form: str, nth: int) -> None:
    store = LocalStore(str(root))
    store.put("x", b"x")
    sleeper = die(root, form, nth, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
        for name in left(root):
            os.utime(root / TMP / name, (0, 0))
        assert (store.sweep(), len(left(root))) == (0, 1)
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.wait() == 0
    finally:
        sleeper.kill()
        sleeper.wait()
    assert (store.get("slot"), left(root)) == (b"x", [])


@BOTH
def test_sweeping_beside_writers_takes_nothing_away(root: Path, disk: type[Disk]) -> None:
    store = LocalStore(str(root), disk=disk())
    store.put("seed", b"x")

    def write(n: int) -> None:
        (store.create if n % 2 else store.put)(f"k/{n:03d}", str(n).encode())

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, n) for n in range(200)]
        swept = 0
        while not all(w.done() for w in writes):
            swept += LocalStore(str(root)).sweep()
        for w in writes:
            w.result()
    assert {e.key: store.get(e.key) for e in store.list("k/")} == {f"k/{n:03d}": str(n).encode() for n in range(200)}
    assert left(root) == []


class Hasty(Disk):
    """Before `call` number `nth`, somebody sweeps."""

    def __init__(self, root: Path, call: str, nth: int = 1) -> None:
        self.root, self.call, self.left = root, call, nth

    def _hook(self, call: str) -> None:
        if call == self.call:
            self.left -= 1
            if self.left == 0:
                LocalStore(str(self.root)).sweep()

    def flock(self, fd: int) -> None:
        self._hook("flock")
        super().flock(fd)

    def rename(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._hook("rename")
        super().rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def fsync(self, fd: int) -> None:
        self._hook("fsync")
        super().fsync(fd)


@pytest.mark.parametrize("call", ["flock", "rename", "fsync"])
def test_a_sweep_at_the_worst_moment(root: Path, call: str) -> None:
    LocalStore(str(root)).put("k", b"old")
    LocalStore(str(root), disk=Hasty(root, call)).put("k", b"new")
    assert (LocalStore(str(root)).get("k"), left(root)) == (b"new", [])


def test_somebody_else_has_locked_what_we_just_made(root: Path) -> None:
    """A sweeper that looks at it at that moment: another name is taken."""

    class Rival(Disk):
        held = -1

        def flock(self, fd: int) -> None:
            if self.held < 0:
                (name,) = left(root)
                self.held = os.open(root / TMP / name, os.O_RDONLY)
                fcntl.flock(self.held, fcntl.LOCK_EX)
            super().flock(fd)

    rival = Rival()
    LocalStore(str(root)).put("seed", b"x")
    try:
        LocalStore(str(root), disk=rival).create("k", b"x")
    finally:
        os.close(rival.held)
    assert (LocalStore(str(root)).get("k"), left(root)) == (b"x", [])


def test_a_sweeper_that_always_wins_ends_in_an_error(root: Path) -> None:
    class Always(Disk):
        def flock(self, fd: int) -> None:
            raise BlockingIOError(errno.EWOULDBLOCK, "held")

    with pytest.raises(StoreUnavailable):
        LocalStore(str(root), disk=Always()).create("k", b"x")
    assert left(root) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_written_to_and_never_swept(root: Path, code: int) -> None:
    class Lockless(Disk):
        def flock(self, fd: int) -> None:
            raise OSError(code, "no locks")

    store = LocalStore(str(root), disk=Lockless())
    store.create("k", b"x")
    (root / TMP / "left").write_bytes(b"x")
    assert (store.sweep(), left(root), store.get("k")) == (0, ["left"], b"x")


def test_an_object_that_was_a_temporary_folder_a_moment_ago(root: Path) -> None:
    """A sweeper opened it in `.tmp`; by the time it has the lock it has become an object."""
    store = LocalStore(str(root), disk=LinklessDisk())
    store.put("seed", b"x")

    class Slow(Disk):
        def flock(self, fd: int) -> None:
            (root / TMP / "n.d").rename(root / "slot")
            super().flock(fd)

    (root / TMP / "n.d").mkdir()
    (root / TMP / "n.d" / BYTES).write_bytes(b"bytes")
    assert LocalStore(str(root), disk=Slow()).sweep() == 0
    assert store.get("slot") == b"bytes"


def test_what_is_none_of_ours_stays(root: Path, tmp_path: Path) -> None:
    store = LocalStore(str(root))
    store.put("k", b"x")
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (root / TMP / "link").symlink_to(outside)
    os.mkfifo(root / TMP / "pipe")
    (root / TMP / "folder").mkdir()
    (root / TMP / "folder" / "theirs").write_text("x")
    assert store.sweep() == 0
    assert left(root) == ["folder", "link", "pipe"] and outside.read_text() == "secret"


def test_sweeping_nothing(root: Path) -> None:
    assert LocalStore(str(root)).sweep() == 0
    assert not root.exists()
    assert MemoryStore().sweep() == 0


def test_a_sweep_that_cannot_look_says_where(root: Path) -> None:
    LocalStore(str(root)).put("k", b"x")
    with pytest.raises(AnchovyError, match=TMP):
        LocalStore(str(root), disk=FaultyDisk(1, errno.EIO, only="listdir")).sweep()


def test_a_nonce_that_was_left_over_is_not_taken_for_the_object(root: Path) -> None:
    from anchovies.core.ids import SystemIds

    LocalStore(str(root)).put("seed", b"x")
    (root / TMP / SystemIds(7).nonce()).write_bytes(b"left over")
    LocalStore(str(root), ids=SystemIds(7)).create("k", b"x")
    with pytest.raises(AlreadyExists):
        LocalStore(str(root)).create("k", b"y")
