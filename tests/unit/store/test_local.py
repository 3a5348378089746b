"""The local datastore: what is acknowledged is on the disk, and nothing leads out of the folder."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anchovies.core.errors import AlreadyExists, AnchovyError, FatalError, NotFound, StoreUnavailable
from anchovies.store.local import TMP, LocalStore
from anchovies.testing.faults import FaultyDisk

KEY = "u/a/$log/log/0000000000/0000000000000001.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def calls(disk: FaultyDisk, *names: str) -> list[tuple[str, str]]:
    return [op for op in disk.ops if op[0] in names]


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def durable(disk: FaultyDisk, root: Path, verb: str) -> None:
    """The order that survives a power cut."""
    order = [(c, p.replace(str(root), "")) for c, p in disk.ops]
    temp = next(i for i, (c, p) in enumerate(order) if c == "write" and p.startswith(f"/{TMP}/"))
    named = next(i for i, op in enumerate(order) if op == (verb, f"/{KEY}"))
    synced = next(i for i, (c, p) in enumerate(order) if c == "fsync" and i > temp)
    closed = next(i for i, (c, p) in enumerate(order) if c == "close" and p.startswith(f"/{TMP}/"))
    assert order[synced][1] == order[temp][1]
    assert temp < synced < closed < named
    later = [p for c, p in order[named:] if c == "fsync"]
    folders = ["/" + KEY.rsplit("/", n)[0] for n in range(1, 5)] + ["/u", ""]
    assert set(later) >= set(folders), "each level of the way up must be on the disk before the write is acknowledged"
    assert later[0] == folders[0]


@pytest.mark.parametrize("verb", ["create", "put"])
def test_a_write_is_durable_before_it_is_acknowledged(root: Path, verb: str) -> None:
    disk = FaultyDisk()
    getattr(LocalStore(str(root), disk=disk), verb)(KEY, b"x")
    durable(disk, root, "link" if verb == "create" else "rename")
    assert files(root) == [KEY]
    assert disk.open_descriptors == 0


def test_a_new_root_is_durable_in_its_parents(tmp_path: Path) -> None:
    disk = FaultyDisk()
    LocalStore(str(tmp_path / "new" / "root"), disk=disk).create("k", b"x")
    synced = [p for c, p in disk.ops if c == "fsync"]
    assert synced.index(str(tmp_path)) < synced.index(str(tmp_path / "new")) < synced.index(str(tmp_path / "new" / "root"))


def test_a_new_folder_in_an_old_one_is_synced_there(root: Path) -> None:
    disk = FaultyDisk()
    store = LocalStore(str(root), disk=disk)
    store.create("u/a/1", b"x")
    disk.ops.clear()
    store.create("u/a/new/1", b"x")
    assert ("fsync", f"{root}/u/a") in disk.ops


def test_the_way_up_is_synced_once_a_process(root: Path) -> None:
    disk = FaultyDisk()
    store = LocalStore(str(root), disk=disk)
    store.create("u/a/1", b"x")
    before = len(calls(disk, "fsync"))
    store.create("u/a/2", b"x")
    assert len(calls(disk, "fsync")) - before == 2  # the file, its folder


def test_settle_syncs_the_folder_each_time(root: Path) -> None:
    LocalStore(str(root)).create(KEY, b"x")
    disk = FaultyDisk()
    store = LocalStore(str(root), disk=disk)
    for _ in range(2):
        disk.ops.clear()
        store.settle(KEY)
        assert ("fsync", f"{root}/{KEY.rpartition('/')[0]}") in disk.ops


@pytest.mark.parametrize("verb", ["create", "put"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EINTR])
def test_every_system_call_may_fail(tmp_path: Path, verb: str, code: int) -> None:
    """A clean error, no half object, no temporary file, no leaked descriptor, and it works when the fault is over."""
    nth = 0
    while True:
        nth += 1
        root = tmp_path / f"root{nth}"
        disk = FaultyDisk(nth, code)
        store = LocalStore(str(root), disk=disk)
        failed = None
        try:
            getattr(store, verb)(KEY, b"content")
        except AnchovyError as e:
            failed = e
        if not disk.hit:
            assert failed is None
            break
        assert disk.open_descriptors == 0, disk.ops[-3:]
        here = files(root) if root.exists() else []
        if isinstance(failed, FatalError):
            assert here in ([], [f"{TMP}/{os.path.basename(p)}" for p in here]), "a FatalError says that nothing landed"
            assert failed.hint and str(root) in failed.hint
        if failed is None or KEY in here:
            assert store.get(KEY) == b"content"
        elif verb == "create":
            store.create(KEY, b"content")
        store.put(KEY, b"other")
        assert LocalStore(str(root)).get(KEY) == b"other"
    assert nth > 20


def test_the_temporary_file_goes_when_the_disk_is_full(root: Path) -> None:
    disk = FaultyDisk(1, errno.ENOSPC, only="write")
    with pytest.raises(FatalError, match="No space left") as e:
        LocalStore(str(root), disk=disk).create(KEY, b"x")
    assert "free space" in (e.value.hint or "") and KEY in (e.value.hint or "")
    assert files(root) == []


def test_what_is_known_of_folders_stays_small(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service makes a folder with each batch that commits. What is forgotten is only made durable once more."""
    monkeypatch.setattr("anchovies.store.folders.MOST_KNOWN", 10)
    disk = FaultyDisk()
    store = LocalStore(str(root), disk=disk)
    for n in range(50):
        store.put(f"u/a/data/t/{n}/x", b"x")
        assert len(store._folders._durable) <= 10 + 5
    disk.ops.clear()
    store.put("u/a/data/t/0/y", b"y")
    assert ("fsync", f"{root}/u/a/data/t") in disk.ops


def test_no_fsync_is_tried_twice(root: Path) -> None:
    disk = FaultyDisk(1, errno.EIO, only="fsync")
    LocalStore(str(root)).put("seed", b"x")  # so that the first fsync is that of the file
    with pytest.raises(StoreUnavailable):
        LocalStore(str(root), disk=disk).create("k", b"x")
    (failed,) = calls(disk, "fsync")
    assert TMP in failed[1]
    assert ("unlink", failed[1]) in disk.ops and not calls(disk, "link")


def test_a_failure_after_the_name_was_given_is_unknown(root: Path) -> None:
    LocalStore(str(root)).put("seed", b"x")
    disk = FaultyDisk(2, errno.ENOSPC, only="fsync")
    with pytest.raises(StoreUnavailable):
        LocalStore(str(root), disk=disk).create("k", b"x")
    assert LocalStore(str(root)).get("k") == b"x"


def test_short_writes_are_continued(root: Path) -> None:
    store = LocalStore(str(root), disk=FaultyDisk(short=True))
    store.create("k", b"many bytes")
    assert store.get("k") == b"many bytes"


# --- confinement ---


@pytest.mark.parametrize("link", ["u", "u/a", "u/a/file"])
def test_no_link_is_followed(root: Path, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    (outside / "a").mkdir(parents=True)
    for there in ("file", "a/file"):
        (outside / there).write_text("secret")
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside / "file" if link.endswith("file") else outside)
    store = LocalStore(str(root))
    with pytest.raises(FatalError, match="cannot read"):
        store.get("u/a/file")
    with pytest.raises(AnchovyError):
        store.create("u/a/file", b"overwritten")
    with pytest.raises(AnchovyError):
        store.settle("u/a/file/x")
    assert store.local_path("u/a/file") is None
    assert list(store.list("")) == []
    if link != "u/a/file":
        with pytest.raises(AnchovyError):
            store.put("u/a/new", b"x")
        with pytest.raises(AnchovyError):
            store.delete("u/a/file")
        with pytest.raises(AnchovyError):
            store.try_lock("u/a/lock")
    assert (outside / "file").read_text() == (outside / "a/file").read_text() == "secret"
    assert sorted(p.name for p in outside.iterdir()) == ["a", "file"]


def test_a_pipe_is_not_an_object(root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    store = LocalStore(str(root))
    with pytest.raises(FatalError):
        store.get("pipe")
    assert list(store.list("")) == []


def test_temporary_files_are_not_listed(root: Path) -> None:
    store = LocalStore(str(root))
    store.put("k", b"x")
    (root / TMP / "left-over").write_bytes(b"x")
    assert [e.key for e in store.list("")] == ["k"]


# --- modes ---


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_root_that_we_make_is_private_and_so_is_all_below(tmp_path: Path) -> None:
    root = tmp_path / "parent" / "root"
    LocalStore(str(root)).put("u/a/x", b"x")
    assert [mode(root), mode(root / "u"), mode(root / "u/a/x")] == [0o700, 0o700, 0o600]
    assert mode(tmp_path / "parent") & 0o055 == 0o055 & ~_umask()


def test_a_shared_root_makes_shared_things(root: Path) -> None:
    root.mkdir()
    root.chmod(0o775)
    LocalStore(str(root)).put("u/a/x", b"x")
    assert [mode(root / "u"), mode(root / "u/a/x")] == [0o777 & ~_umask(), 0o666 & ~_umask()]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_read_says_where(root: Path) -> None:
    store = LocalStore(str(root))
    store.put("k", b"x")
    for verb, code, only in (("get", errno.EIO, "read"), ("delete", errno.EROFS, "unlink"), ("settle", errno.EIO, "fsync")):
        broken = LocalStore(str(root), disk=FaultyDisk(1, code, only=only))
        with pytest.raises(AnchovyError, match=str(root)):
            getattr(broken, verb)("k")
    with pytest.raises(StoreUnavailable):
        list(LocalStore(str(root), disk=FaultyDisk(1, errno.EIO, only="listdir")).list(""))


@pytest.mark.parametrize("call", ["fsync", "mkdir", "open"])
def test_a_root_that_cannot_be_made(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk(2 if call == "open" else 1, errno.EACCES, only=call)
    with pytest.raises(AnchovyError):
        LocalStore(str(tmp_path / "new" / "root"), disk=disk).create("k", b"x")
    assert disk.open_descriptors == 0
    store = LocalStore(str(tmp_path / "new" / "root"))
    store.create("k", b"x")
    assert store.get("k") == b"x"


@pytest.mark.parametrize("call", ["open", "flock", "fstat"])
def test_a_lock_that_cannot_be_had(root: Path, call: str) -> None:
    LocalStore(str(root)).put("u/k", b"x")
    disk = FaultyDisk(1, errno.EACCES, only=call)
    with pytest.raises(FatalError, match="cannot lock"):
        LocalStore(str(root), disk=disk).try_lock("u/lock")
    assert disk.open_descriptors == 0


def test_files_that_vanish_while_they_are_listed(root: Path) -> None:
    store = LocalStore(str(root))
    for key in ("a/1", "a/2", "b/1", "c"):
        store.put(key, b"x")

    class Vanishing(FaultyDisk):
        def listdir(self, fd: int) -> list[str]:
            found = super().listdir(fd)
            if "1" in found:
                (root / "a/1").unlink(missing_ok=True)
            return found

    class Gone(FaultyDisk):
        def stat(self, name: str, *, dir_fd: int) -> os.stat_result:
            found = super().stat(name, dir_fd=dir_fd)
            if name == "b":
                (root / "b/1").unlink(missing_ok=True)
                (root / "b").rmdir()
            return found

    assert [e.key for e in LocalStore(str(root), disk=Vanishing()).list("")] == ["a/2", "b/1", "c"]
    assert [e.key for e in LocalStore(str(root), disk=Gone()).list("")] == ["a/2", "c"]


# --- other processes ---

RACE = """
import sys
from anchovies.core.errors import AlreadyExists
from anchovies.store.local import LocalStore
store = LocalStore(sys.argv[1])
sys.stdin.readline()
try:
    store.create("u/a/slot", sys.argv[2].encode())
    print("won", sys.argv[2])
except AlreadyExists:
    print("lost")
"""


def test_one_of_ten_processes_wins(root: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen([sys.executable, "-c", RACE, str(root), str(n)], **pipes) for n in range(10)]
    for r in racers:
        r.stdin.write("\n")
        r.stdin.flush()
    said = [r.communicate()[0].split() for r in racers]
    winners = [s[1] for s in said if s[0] == "won"]
    assert len(winners) == 1 and LocalStore(str(root)).get("u/a/slot") == winners[0].encode()


LOCK = """
import sys
from anchovies.store.local import LocalStore
lock = LocalStore(sys.argv[1]).try_lock("u/lock")
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_lock_dies_with_its_holder(root: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", LOCK, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyExists):
            LocalStore(str(root)).try_lock("u/lock")
        holder.kill()
    LocalStore(str(root)).try_lock("u/lock").release()


def test_a_lock_is_not_inherited(root: Path) -> None:
    """A child that outlives us, started by exec or by fork, must not keep the anchovy locked."""
    script = (
        "import os, subprocess, sys, time\n"
        "from anchovies.store.local import LocalStore\n"
        "lock = LocalStore(sys.argv[1]).try_lock('u/lock')\n"
        "sleeper = subprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL)\n"
        "up, tell = os.pipe()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os.write(tell, b'1'); time.sleep(20); os._exit(0)\n"
        "os.read(up, 1)\n"
        "print(sleeper.pid, pid, flush=True)\n"
        "os._exit(0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(p) for p in parent.stdout.readline().split()]
        try:
            assert parent.wait(10) == 0
            LocalStore(str(root)).try_lock("u/lock").release()
        finally:
            for pid in children:
                os.kill(pid, 9)


def test_a_missing_root_is_an_empty_datastore(root: Path) -> None:
    store = LocalStore(str(root))
    assert list(store.list("")) == []
    with pytest.raises(NotFound):
        store.get("k")
    store.delete("k")
    assert not root.exists()
