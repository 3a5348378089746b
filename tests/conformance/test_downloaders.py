"""Our own downloaders pass the suite that everybody's must pass."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from anchovies.testing.downloader import DownloaderSuite
from anchovies.testing.servers import SftpServer, asyncssh_server
from anchovies.testing.trial import Subject

PASSWORD = "sesame-of-the-test"


def write(path: Path, first: int, rows: int = 4) -> None:
    text = "id,name,price\n" + "".join(f"{n},name {n},{n}.50\n" for n in range(first, first + rows))
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def spoiled(path: Path) -> Callable[[], object]:
    whole = path.read_bytes()
    path.write_bytes(whole + b'99,"never closed')
    return lambda: path.write_bytes(whole)


class TestFiles(DownloaderSuite):
    def make(self, folder: Path) -> Subject:
        for n, name in enumerate(("a.csv", "b.csv", "c.csv.gz", "other.txt")):
            write(folder / name, 10 * n)
        return Subject(
            "files.CsvDownloader",
            cnxns={"default": {"path": str(folder)}},
            tbls={"sales": {"path": "*.csv*", "autodiscover": True}, "others": {"path": "*.txt", "columns": {"id": "int"}}},
            grow=lambda: write(folder / "d.csv", 90),
            spoil=lambda: spoiled(folder / "b.csv"),
        )


class TestSqlite(DownloaderSuite):
    def make(self, folder: Path) -> Subject:
        path = folder / "shop.db"

        def add(first: int) -> None:
            with closing(sqlite3.connect(path)) as con:
                for n in range(first, first + 4):
                    con.execute("INSERT INTO orders VALUES (?, ?, ?)", [n, n // 3, f"order {n}"])
                    con.execute("INSERT INTO visits VALUES (?)", [n // 2])
                con.commit()

        with closing(sqlite3.connect(path)) as con:
            con.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, at INTEGER, note TEXT)")
            con.execute("CREATE TABLE visits (at INTEGER)")
        add(0)
        tbls = {"orders": {"incremental": "at", "lag": 1}, "visits": {"incremental": "at"}}

        def spoil() -> Callable[[], None]:
            """A text lies in a column of integers."""

            def put(value: object) -> None:
                with closing(sqlite3.connect(path)) as con, con:
                    con.execute("UPDATE visits SET at = ? WHERE rowid = (SELECT max(rowid) FROM visits)", [value])

            with closing(sqlite3.connect(path)) as con:
                (good,) = con.execute("SELECT at FROM visits WHERE rowid = (SELECT max(rowid) FROM visits)").fetchone()
            put("not a number")
            return lambda: put(good)

        cnxns = {"db": {"url": f"sqlite:///{path}"}}
        return Subject("sql.Downloader", cnxns=cnxns, tbls=tbls, grow=lambda: add(4), spoil=spoil)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SftpServer]]:
    """A folder, and an SFTP server whose `/` it is."""
    root = tmp_path_factory.mktemp("served")
    with asyncssh_server(root, "user", PASSWORD) as server:
        yield root, server


class TestSftp(TestFiles):
    @pytest.fixture(autouse=True)
    def _server(self, served: tuple[Path, SftpServer]) -> None:
        self.root, self.server = served

    def make(self, folder: Path) -> Subject:
        inside = self.root / f"{folder.parent.name}-{folder.name}"  # `folder` is not where the server looks
        inside.mkdir()
        made = super().make(inside)
        made.operator = "sftp.CsvDownloader"
        made.cnxns = {"default": {"uri": self.server.uri(PASSWORD, f"/{inside.name}"), "host_key": self.server.fingerprint}}
        return made
