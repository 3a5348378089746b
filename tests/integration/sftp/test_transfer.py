"""What may happen between the first byte and the last: growth, loss, refusal, names that no file should have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from anchovies.plugins.files import collect
from anchovies.plugins.sftp import place
from anchovies.sdk import SourceError
from anchovies.testing.servers import SftpServer, asyncssh_server

ROWS = [{"n": str(i)} for i in range(60_000)]
TEXT = "n\n" + "".join(f"{r['n']}\n" for r in ROWS)


class Scripted(asyncssh.SFTPServer):
    """Serves a folder, and does what `on_read(server, offset)` says at every read."""

    def __init__(self, chan: Any, root: Path, on_read: Any = None, names: list[Any] | None = None) -> None:
        self.conn = chan.get_connection()
        self._on_read, self._names = on_read, names
        super().__init__(chan, chroot=os.fsencode(root))

    def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        if self._on_read:
            self._on_read(self, offset)
        return super().read(file_obj, offset, size)

    async def scandir(self, path: bytes) -> Any:
        for name in self._names or ():
            yield name
        async for name in super().scandir(path):
            yield name


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "CHUNK", 32_768)


def scripted(root: Path, **script: Any) -> Any:
    return asyncssh_server(root, sftp_factory=lambda chan: Scripted(chan, root, **script))


def connected(reader: Any, server: SftpServer) -> Any:
    return reader.connect(uri=server.uri("password"), host_key=server.fingerprint)


def test_larger_than_the_read_ahead(server: SftpServer, root: Path, client_key: Path, reader: Any, small_chunks: None) -> None:
    for name in ("a", "b"):
        (root / f"{name}.csv").write_text(TEXT)
    reader.connect(uri=server.uri(), ppk_path=str(client_key), host_key=server.fingerprint)
    assert reader.read("*.csv") == ROWS + ROWS and reader.ctx.bytes_read == 2 * len(TEXT)


@pytest.mark.parametrize("times", [1, 100])
def test_connection_lost_mid_file(root: Path, reader: Any, small_chunks: None, times: int) -> None:
    (root / "a.csv").write_text(TEXT)
    (root / "b.csv").write_text("n\nb\n")
    lost: list[int] = []

    def cut(server: Scripted, offset: int) -> None:
        if offset > 200_000 and len(lost) < times:
            lost.append(offset)
            server.conn.abort()

    with scripted(root, on_read=cut) as server:
        connected(reader, server)
        if times == 1:
            assert reader.read("*.csv") == [*ROWS, {"n": "b"}]
            assert reader.ctx.discards == 1
        else:
            with pytest.raises(SourceError, match=r"a\.csv: the connection to 127\.0\.0\.1:\d+ was lost"):
                reader.read("*.csv")
            assert reader.ctx.rows == []


@pytest.mark.parametrize("for_ever", [False, True])
def test_a_file_that_grows(root: Path, reader: Any, small_chunks: None, for_ever: bool) -> None:
    path = root / "a.csv"
    path.write_text(TEXT)
    (root / "b.csv").write_text("n\nb\n")
    grown: list[int] = []

    def grow(server: Scripted, offset: int) -> None:
        if offset == 0 and (for_ever or not grown) and len(grown) < 50:
            grown.append(1)
            with path.open("a") as f:
                f.write("more\n")

    with scripted(root, on_read=grow) as server:
        connected(reader, server)
        if not for_ever:
            assert reader.read("*.csv") == [*ROWS, {"n": "more"}, {"n": "b"}]
            return
        with pytest.raises(SourceError, match=r"a\.csv changed while it was read"):
            reader.read("a.csv")
    assert reader.ctx.rows == [] and len(grown) == collect.ATTEMPTS


def test_a_server_that_stalls(root: Path, reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "ATTEMPTS", 1)

    opened: list[Any] = []

    class Stalled(asyncssh.SFTPServer):
        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            opened.append(super().open(path, pflags, attrs))
            return opened[-1]

        async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
            import asyncio

            await asyncio.sleep(3600)
            return b""

    with asyncssh_server(root, sftp_factory=lambda chan: Stalled(chan, chroot=os.fsencode(root))) as server:
        reader.connect(uri=server.uri("password"), host_key=server.fingerprint, timeout=0.6)
        with pytest.raises(SourceError, match=r"no answer within 0\.6 s"):
            reader.read("sales/a.tsv")
    for file in opened:
        file.close()


def test_permission_denied_and_missing(root: Path, reader: Any) -> None:
    class Refusing(asyncssh.SFTPServer):
        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            if path.endswith(b"a.tsv"):
                raise asyncssh.SFTPPermissionDenied("no")
            return super().open(path, pflags, attrs)

    with asyncssh_server(root, sftp_factory=lambda chan: Refusing(chan, chroot=os.fsencode(root))) as server:
        connected(reader, server)
        with pytest.raises(SourceError, match=r"/sales/a\.tsv: .*permission denied"):
            reader.read()
        assert reader.ctx.rows == [{"x": "2", "y": "a\nb"}]
        with pytest.raises(SourceError, match="there is no file /sales/none"):
            reader.read("/sales/none.tsv")
        assert reader.read("/salse/*.tsv") == []
        assert reader.ctx.warnings == ["no file matches /salse/*.tsv (there is no folder /salse)"]


def test_hostile_names(root: Path, reader: Any) -> None:
    attrs = asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_REGULAR, permissions=0o100644, size=5, mtime=1)
    bad = [b"../../etc/passwd.tsv", b"/etc/x.tsv", b"n\n.tsv", b"\x1b[2J.tsv", b"\xff.tsv", b"x" * 4000 + b".tsv", b".."]
    with scripted(root, names=[asyncssh.SFTPName(n, attrs=attrs) for n in bad]) as server:
        connected(reader, server)
        assert [r["x"] for r in reader.read()] == ["1", "2"]
    text = " ".join(reader.ctx.warnings)
    assert "etc/passwd" in text and "over 255 bytes" in text and text.isprintable()


def test_links_are_not_followed(server: SftpServer, root: Path, client_key: Path, reader: Any) -> None:
    (root / "sales" / "l.tsv").symlink_to("/etc/hostname")
    os.mkfifo(root / "sales" / "p.tsv")
    reader.connect(uri=server.uri(), ppk_path=str(client_key), host_key=server.fingerprint)
    assert [r["x"] for r in reader.read()] == ["1", "2"]
    assert sorted(w.partition(":")[0] for w in reader.ctx.warnings) == [
        "not read, it is a link",
        "not read, it is no regular file",
    ]


def test_many_files_in_one_folder(root: Path, reader: Any) -> None:
    for i in range(10_000):
        (root / f"{i}.txt").touch()
    (root / "z.csv").write_text("n\n1\n")
    with asyncssh_server(root) as server:
        assert connected(reader, server).read("*.csv") == [{"n": "1"}]
