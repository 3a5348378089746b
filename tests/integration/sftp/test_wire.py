"""An SFTP server behind a wire that breaks: nothing half is committed, the error names the server, the next run has it all."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.core.schema import batch_to_rows
from anchovies.sdk import AnchovyError, SessionResult
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.local import LocalStore
from anchovies.testing.proxy import Proxy, Rule
from anchovies.testing.servers import SftpServer, asyncssh_server

ROWS = 40_000
#: the greeting, the exchange of keys, the login, the listing, the first file, the second
PLACES = {"greeting": 0, "keys": 900, "login": 2200, "first file": 60_000, "second file": 170_000}


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    (root / "sales").mkdir(parents=True)
    for name, first in (("a", 0), ("b", ROWS // 2)):
        (root / "sales" / f"{name}.tsv").write_text("i\n" + "".join(f"{i}\n" for i in range(first, first + ROWS // 2)))
    return root


@pytest.fixture
def behind(two_files: Path) -> Iterator[tuple[SftpServer, Proxy]]:
    with asyncssh_server(two_files) as server, Proxy(server.port) as proxy:
        yield server, proxy


class Job:
    """Runs of one downloader, and what they left."""

    def __init__(self, folder: Path, server: SftpServer, proxy: Proxy) -> None:
        self._store = str(folder / "home")
        self._where = {
            "uri": f"sftp://user:password@127.0.0.1:{proxy.port}/",
            "host_key": server.fingerprint,
            "timeout": "0.8",
        }

    def run(self, **settings: Any) -> SessionResult:
        found: SessionResult = anchovies.run(
            "sftp.CsvDownloader", id="sales", user="me", datastore=self._store, cnxns={"default": self._where},
            tbls={"sales": {"path": "/sales/*.tsv"}}, **settings,
        )  # fmt: skip
        return found

    def rows(self) -> list[int]:
        """Every committed row, in the log's order."""
        store = LocalStore(self._store)
        reader = Reader(store, Home("me", "sales"))
        files = [f for record in reader.records(0, "") for f in reader.files_of(record)]
        return [int(row["i"]) for f in files for batch in read_batches(store, f) for row in batch_to_rows(batch)]


@pytest.fixture
def job(tmp_path: Path, behind: tuple[SftpServer, Proxy]) -> Job:
    return Job(tmp_path, *behind)


@pytest.mark.parametrize("place", [p for p in PLACES if p != "second file"])  # a new connection would get through to that
@pytest.mark.parametrize("do", ["reset", "cut", "half-close", "stall"])
def test_it_breaks_every_time(
    job: Job, behind: tuple[SftpServer, Proxy], caplog: pytest.LogCaptureFixture, do: Any, place: str
) -> None:
    wire = behind[1]
    wire.rules = [Rule(do, "down", PLACES[place], times=None)]
    with pytest.raises(AnchovyError, match=rf"127\.0\.0\.1:{wire.port}"):
        job.run()
    assert wire.fired
    # whole files or none of them
    assert job.rows() in ([], list(range(ROWS // 2)))
    wire.rules = []
    job.run()
    assert sorted(job.rows()) == list(range(ROWS))
    assert job.run().rows == 0
    gc.collect()
    assert [r for r in caplog.records if r.name == "asyncio"] == [], "what is read ahead says it once more on the terminal"


@pytest.mark.parametrize("place", ["greeting", "first file", "second file"])
@pytest.mark.parametrize("do", ["reset", "cut", "half-close", "stall"])
def test_it_breaks_once(job: Job, behind: tuple[SftpServer, Proxy], do: Any, place: str) -> None:
    """Within the run it is tried again."""
    wire = behind[1]
    wire.rules = [Rule(do, "down", PLACES[place])]
    job.run()
    assert wire.fired and wire.connections >= 2
    assert sorted(job.rows()) == list(range(ROWS))


def test_nobody_listens(job: Job, behind: tuple[SftpServer, Proxy]) -> None:
    wire = behind[1]
    wire.refuse()
    with pytest.raises(AnchovyError, match=rf"127\.0\.0\.1:{wire.port} cannot be reached: Connection refused") as caught:
        job.run()
    assert "ACHVY_CNXN__URI" in str(caught.value.hint)
    assert job.rows() == []
    wire.admit()
    job.run()
    assert sorted(job.rows()) == list(range(ROWS))


def test_a_slow_wire_is_only_slow(job: Job, behind: tuple[SftpServer, Proxy]) -> None:
    """Slower than the patience for one answer, but never silent for so long."""
    wire = behind[1]
    wire.rules = [Rule("throttle", "down", PLACES["first file"], rate=150_000)]
    job.run()
    assert wire.fired and sorted(job.rows()) == list(range(ROWS))
