"""File systems without hard links: what is created is a folder, and every process reads both forms."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from anchovies.core.errors import AlreadyExists, AnchovyError, ConfigError, FatalError, NotFound
from anchovies.store.local import TMP, LocalStore
from anchovies.store.temps import BYTES
from anchovies.testing.faults import FaultyDisk, LinklessDisk

KEY = "u/a/$log/log/0000000000/0000000000000001.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def linked(root: Path) -> LocalStore:
    return LocalStore(str(root))


def linkless(root: Path) -> LocalStore:
    return LocalStore(str(root), disk=LinklessDisk())


def test_the_form_is_found_once_by_trying(root: Path) -> None:
    disk = LinklessDisk()
    store = LocalStore(str(root), disk=disk)
    store.create("u/1", b"1")
    store.create("u/2", b"2")
    assert [p for c, p in disk.ops if c == "link"] == [f"{root}/u/1"]
    assert (root / "u/1" / BYTES).read_bytes() == b"1"
    assert os.listdir(root / TMP) == []
    assert disk.open_descriptors == 0


def test_where_links_work_nothing_is_a_folder(root: Path) -> None:
    linked(root).create("u/1", b"1")
    assert (root / "u/1").is_file()


@pytest.mark.parametrize(("first", "second"), [(linked, linkless), (linkless, linked), (linkless, linkless)])
def test_what_one_wrote_the_other_reads(root: Path, first, second) -> None:  # type: ignore[no-untyped-def]
    one, other = first(root), second(root)
    one.create("u/slot", b"one")
    one.put("u/file", b"file")
    for writer in (other, one):
        with pytest.raises(AlreadyExists):
            writer.create("u/slot", b"other")
        with pytest.raises(AlreadyExists):
            writer.create("u/file", b"other")
    assert (other.get("u/slot"), other.get("u/file")) == (b"one", b"file")
    assert [(e.key, e.size) for e in other.list("")] == [("u/file", 4), ("u/slot", 3)]
    path = other.local_path("u/slot")
    assert path is not None and Path(path).read_bytes() == b"one"
    other.put("u/slot", b"replaced")
    assert (one.get("u/slot"), [e.size for e in one.list("u/slot")]) == (b"replaced", [8])
    other.settle("u/slot")
    other.delete("u/slot")
    with pytest.raises(NotFound):
        one.get("u/slot")
    assert [e.key for e in one.list("")] == ["u/file"]
    one.create("u/slot", b"again")
    assert other.get("u/slot") == b"again"
    assert os.listdir(root / TMP) == []


def test_a_folder_of_keys_is_not_an_object(root: Path) -> None:
    store = linkless(root)
    store.create("u/a/slot", b"x")
    for attempt in (lambda: store.put("u/a", b"y"), lambda: store.delete("u/a"), lambda: store.create("u/a", b"y")):
        with pytest.raises(AnchovyError):
            attempt()
    with pytest.raises(NotFound):
        store.get("u/a")
    assert store.local_path("u/a") is None
    assert store.get("u/a/slot") == b"x"


def test_our_own_names_are_no_keys(root: Path) -> None:
    store = linkless(root)
    store.create("u/slot", b"x")
    for key in (f"u/slot/{BYTES}", f"{TMP}/x", TMP):
        for attempt in (lambda k=key: store.get(k), lambda k=key: store.put(k, b"y"), lambda k=key: store.delete(k)):  # type: ignore[misc]
            with pytest.raises(ConfigError):
                attempt()
    assert list(store.list("u/slot/")) == []


def test_folders_sort_among_files_as_keys_do(root: Path) -> None:
    store = linkless(root)
    names = ["u/a-b", "u/a.b", "u/a/x", "u/a0", "u/b", "u/a/b/c", "u/a/b.c"]
    for i, name in enumerate(names):
        (store.create if i % 2 else store.put)(name, b"x")
    assert [e.key for e in store.list("u/")] == sorted(names)
    for after in names:
        assert [e.key for e in store.list("u/", after)] == [n for n in sorted(names) if n > after]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EINTR])
@pytest.mark.parametrize("verb", ["create", "put", "delete"])
def test_every_system_call_may_fail(tmp_path: Path, verb: str, code: int) -> None:
    nth = 0
    while True:
        nth += 1
        root = tmp_path / f"root{nth}"
        linkless(root).create("u/slot" if verb != "create" else "u/other", b"old")
        disk = LinklessDisk(nth, code)
        store = LocalStore(str(root), disk=disk)
        failed = None
        try:
            store.delete("u/slot") if verb == "delete" else getattr(store, verb)("u/slot", b"new")
        except AnchovyError as e:
            failed = e
        if not disk.hit:
            assert failed is None
            break
        assert disk.open_descriptors == 0, disk.ops[-3:]
        assert {e.key: store.get(e.key) for e in store.list("u/slot")}.get("u/slot") in (b"old", b"new", None)
        if isinstance(failed, FatalError) and verb != "create":
            assert store.get("u/slot") == b"old"
        store.sweep()
        assert os.listdir(root / TMP) == []
        store.put("u/slot", b"later")
        assert linked(root).get("u/slot") == b"later"
    assert nth > 10


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EINTR])
@pytest.mark.parametrize("verb", ["get", "list", "settle"])
def test_every_system_call_of_a_read_may_fail(tmp_path: Path, verb: str, code: int) -> None:
    """An error, or the right answer: never another one."""
    root, nth = tmp_path / "root", 0
    linkless(root).create("u/slot", b"old")
    while True:
        nth += 1
        disk = LinklessDisk(nth, code)
        store = LocalStore(str(root), disk=disk)
        try:
            if verb == "list":
                assert [(e.key, e.size) for e in store.list("u/")] == [("u/slot", 3)]
            elif verb == "get":
                assert store.get("u/slot") == b"old"
            else:
                store.settle("u/slot")
        except NotFound:
            raise AssertionError(f"call {nth}: what cannot be read is not missing: {disk.ops[-1]}") from None
        except AnchovyError:
            assert disk.hit
        assert disk.open_descriptors == 0, disk.ops[-3:]
        if not disk.hit:
            break
    assert nth > 3


def test_short_writes_are_continued(root: Path) -> None:
    disk = LinklessDisk(short=True)
    store = LocalStore(str(root), disk=disk)
    store.create("k", b"many bytes")
    assert store.get("k") == b"many bytes" and disk.open_descriptors == 0
    store.put("k", b"other bytes")
    assert linked(root).get("k") == b"other bytes"


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_no_fsync_is_tried_twice(root: Path, nth: int) -> None:
    """After a failed fsync the kernel may have thrown the pages away, so a second one that succeeds says nothing."""
    linkless(root).create("u/seed", b"x")
    disk = LinklessDisk(nth, errno.EIO, only="fsync")
    with pytest.raises(AnchovyError):
        LocalStore(str(root), disk=disk).create("u/slot", b"x")
    synced = [p for c, p in disk.ops if c == "fsync"]
    assert synced.count(synced[nth - 1]) == 1
    assert disk.open_descriptors == 0


def test_what_is_created_is_on_the_disk_before_it_has_its_name(root: Path) -> None:
    disk = LinklessDisk()
    LocalStore(str(root), disk=disk).create(KEY, b"x")
    ops = disk.ops
    written = next(p for c, p in ops if c == "write")
    inside = next(i for i, (c, p) in enumerate(ops) if c == "rename" and p.endswith(BYTES))
    named = ops.index(("rename", f"{root}/{KEY}"))
    assert ops.index(("fsync", written)) < inside, "its bytes"
    assert ("fsync", os.path.dirname(ops[inside][1])) in ops[inside:named], "its folder"
    assert ("fsync", os.path.dirname(f"{root}/{KEY}")) in ops[named:], "its name"


def test_a_link_is_not_followed_into_an_object(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / BYTES).write_bytes(b"secret")
    store = linkless(root)
    store.put("u/x", b"x")
    (root / "u/slot").symlink_to(outside)
    (root / "u/other").mkdir()
    (root / "u/other" / BYTES).symlink_to(outside / BYTES)
    for key in ("u/slot", "u/other"):
        with pytest.raises(FatalError):
            store.get(key)
        assert store.local_path(key) is None
    with pytest.raises(AlreadyExists):
        store.create("u/slot", b"y")
    assert (outside / BYTES).read_bytes() == b"secret"


def test_a_refusal_that_is_no_lack_of_links_stays_one(root: Path) -> None:
    linked(root).put("u/x", b"x")
    disk = FaultyDisk(1, errno.EACCES, only="link")
    store = LocalStore(str(root), disk=disk)
    with pytest.raises(AnchovyError, match="cannot write"):
        store.create("u/slot", b"x")
    store.create("u/slot", b"x")
    assert (root / "u/slot").is_file()
