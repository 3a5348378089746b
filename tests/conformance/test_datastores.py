"""Every datastore of our own does what a datastore must do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from anchovies.core.errors import NotFound
from anchovies.store.base import Store
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store
from anchovies.testing.datastore import DatastoreSuite
from anchovies.testing.faults import LinklessDisk


class TestMemoryStore(DatastoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestLocalStore(DatastoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(str(tmp_path / "root"))


class TestFileUrl(DatastoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(f"file://{tmp_path}/deep/er/root")


class TestWithoutLinks(DatastoreSuite):
    """Where `link` is refused."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(str(tmp_path / "root"), disk=LinklessDisk())


@pytest.fixture(scope="module")
def exfat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real file system without hard links, in a file of 256 MB."""
    need = [shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") for tool in ("losetup", "mkfs.exfat", "mount.exfat-fuse")]
    if None in need or not Path("/dev/fuse").exists():
        pytest.skip("no exFAT here (Debian: apt-get install exfat-fuse exfatprogs; wants /dev/fuse and root)")
    losetup, mkfs, mount = map(str, need)
    image, folder = tmp_path_factory.mktemp("exfat") / "image", tmp_path_factory.mktemp("mounted")
    with image.open("wb") as f:
        f.truncate(256 << 20)
    subprocess.run([mkfs, str(image)], check=True, capture_output=True)
    loop = subprocess.run([losetup, "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if loop.returncode:
        pytest.skip(f"no loop device can be had here (run as root): {loop.stderr.strip()}")
    try:
        subprocess.run([mount, loop.stdout.strip(), str(folder)], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        subprocess.run([losetup, "-d", loop.stdout.strip()], check=True)


@pytest.mark.server
class TestExFat(DatastoreSuite):
    @pytest.fixture
    def store(self, exfat: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
        if "u/c:x" in request.node.name:
            pytest.xfail("no name with a colon can be on exFAT; our own keys have none")
        root = exfat / "root"
        yield LocalStore(str(root))
        shutil.rmtree(root, ignore_errors=True)

    def test_it_has_no_links(self, exfat: Path) -> None:
        (exfat / "a").write_bytes(b"")
        with pytest.raises(PermissionError):
            (exfat / "b").hardlink_to(exfat / "a")

    def test_readers_never_see_half_an_object(self, store: Store) -> None:
        """This driver replaces a file in two steps, so a reader may find nothing: only advisory objects are ever replaced."""
        looked = 0
        with ThreadPoolExecutor(1) as pool:
            writes = [pool.submit(store.put, "u/a/x", str(n % 10).encode() * 50_000) for n in range(30)]
            while not all(w.done() for w in writes):
                with suppress(NotFound):
                    seen = store.get("u/a/x")
                    assert len(set(seen)) == 1 and len(seen) == 50_000
                    looked += 1
            for w in writes:
                w.result()
        assert looked and store.get("u/a/x") == b"9" * 50_000

    def test_what_was_created_is_a_folder(self, store: LocalStore) -> None:
        store.create("u/slot", b"x")
        assert (Path(store.root) / "u/slot/.bytes").read_bytes() == b"x"
