"""Two tables are loaded at once: a server gives each thread a session of its own, the file of a database takes one load at a time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.plugins.sql import Uploader
from anchovies.sdk import Counts, Downloader, Load, source
from anchovies.testing.mariadb import mariadb
from anchovies.testing.mariadb import missing as no_mariadb
from anchovies.testing.postgres import missing, postgres

KINDS = ["duckdb", "sqlite", *(pytest.param(kind, marks=pytest.mark.server) for kind in ("postgres", "mariadb"))]
WHO = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
NAMES = (f"threads{n}" for n in itertools.count())
ROUNDS = 3


class Two(Downloader):
    @source("a", "b")
    def rows(self, table: str) -> Any:
        yield [{"id": n, "v": f"{table} {n}"} for n in range(500)]


class Together(Uploader):
    """No load begins before the other table's does. `backends`: who did it, where that is a server."""

    meet: threading.Barrier
    backends: set[object] = set()
    threads: set[int] = set()

    def load(self, load: Load) -> Counts:
        if threading.get_ident() not in self.threads:  # a load that has to be tried again waits for nobody
            self.threads.add(threading.get_ident())
            self.meet.wait(60)
        if self._db.scheme in WHO:
            with self._db.database() as db:
                self.backends.add(db.rows(WHO[self._db.scheme])[0][0])
        return super().load(load)


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def mariadb_url() -> Iterator[str]:
    if reason := no_mariadb():
        pytest.skip(reason)
    with mariadb() as port:
        yield f"mysql://root@127.0.0.1:{port}/mysql"


@pytest.mark.parametrize("kind", KINDS)
def test_two_tables_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = kind in ("postgres", "mariadb")
    url = request.getfixturevalue(f"{kind}_url") if server else f"{kind}:///{tmp_path}/x.db"
    tbls = {name: {"unique_by": "id"} for name in ("a", "b")}
    for _ in range(ROUNDS):  # each into a schema that is not there yet: both want to make it
        who: Any = {"user": "u", "datastore": "memory://threads"}
        up = next(NAMES)
        anchovies.run(Two, id=up, tbls=tbls, **who)
        Together.meet = threading.Barrier(2)
        Together.backends.clear()
        Together.threads.clear()
        result = anchovies.run(Together, id=f"{up}_up", upstream=up, threads=2, cnxns={"db": {"url": url}}, **who)
        assert {t.tbl: t.counts["inserted"] for t in result.tables} == {"a": 500, "b": 500}
        assert len(Together.threads) == 2
        assert len(Together.backends) == (2 if server else 0)
        assert anchovies.run(Uploader, id=f"{up}_up", upstream=up, threads=2, cnxns={"db": {"url": url}}, **who).rows == 0
