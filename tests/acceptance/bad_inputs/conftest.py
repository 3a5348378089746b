"""A server with bad files on it, and the one question of these tests: is it refused well?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import asyncssh
import pytest

from anchovies.testing.servers import SftpServer, asyncssh_server

FILES = {
    "good": "id\tname\n1\tone\n2\ttwo\n",
    "ragged": "a\tb\n1\t2\n3\t4\t5\n6\t7\n",
    "short": "a\tb\n1\t2\n3\n",
    "unclosed": 'a\tb\n1\t"two\n3\t4\n',
    "latin": b"a\tb\n1\t\xe9t\xe9\n",
    "unfit": "a\tb\n1\t2\nx\t3\n",
    "numbers": "id\tv\n9\ta\n10\tb\n10\tc\n",
    "twice": "a\ta\n1\t2\n",
    "closed": "a\tb\n1\t2\n",
}


class _Closed(asyncssh.SFTPServer):
    """Refuses to open the file `closed.tsv`, as a file system does for another user's file."""

    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        if path.endswith(b"/closed.tsv"):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        return super().open(path, pflags, attrs)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, secret: str) -> Iterator[SftpServer]:
    root = tmp_path_factory.mktemp("bad")
    (root / "bad").mkdir()
    for name, text in FILES.items():
        (root / "bad" / f"{name}.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with asyncssh_server(root, "user", secret, sftp_factory=lambda chan: _Closed(chan, chroot=str(root).encode())) as running:
        yield running


@pytest.fixture
def sftp(server: SftpServer, secret: str) -> dict[str, str]:
    """The environment that reads the server."""
    return {"ACHVY_CNXN__URI": server.uri(quote(secret, safe="")), "ACHVY_CNXN__HOST_KEY": server.fingerprint}


class Refused(Protocol):
    def __call__(
        self, *args: str, code: int | tuple[int, ...] = 2, says: tuple[str, ...], env: dict[str, str] | None = None
    ) -> str: ...


@pytest.fixture
def refused(anchovy: Any) -> Refused:
    """Run it; it must end with `code` and say all of `says`, on stderr, without a traceback; what is visible stays as it was."""

    def run(*args: str, code: int | tuple[int, ...] = 2, says: tuple[str, ...], env: dict[str, str] | None = None) -> str:
        before = anchovy.visible()
        done = anchovy(*args, env=env)
        assert done.returncode in (code if isinstance(code, tuple) else (code,)), (
            f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        told = "error: " in done.stderr or " ERROR failed " in done.stderr  # a command's own words, or the line of the task
        assert told and "Traceback" not in done.stderr, done.stderr
        for words in says:
            assert words in done.stderr, f"{words!r} is not in:\n{done.stderr}"
        assert anchovy.visible() == before, "something became visible"
        return done.stderr

    return run


@pytest.fixture
def table(anchovy: Any) -> Any:
    """`table("good", "columns: {id: int}")`: the table `sales` of one file, and more."""

    def write(name: str, *more: str) -> None:
        anchovy.config("tbls:\n  sales: {" + ", ".join([f"path: /bad/{name}.tsv", "delimiter: /t", *more]) + "}\n")

    return write


@pytest.fixture
def kept(anchovy: Any, table: Any, sftp: dict[str, str]) -> Path:
    """A datastore in which the anchovy `good` has kept two rows."""
    table("good")
    anchovy.ok("start", "-op", "sftp.CsvDownloader", "--id", "good", env=sftp)
    home: Path = anchovy.home
    return home
