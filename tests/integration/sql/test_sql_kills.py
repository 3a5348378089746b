"""Whatever ends a load half way, each row is in the table once after it was done again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, STR
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.sdk import Position, PositionMoved, RetryableError
from anchovies.testing.postgres import missing, postgres
from anchovies.testing.sql import FakeLoad, Unit, loads

KINDS = ["duckdb", "sqlite", pytest.param("postgres", marks=pytest.mark.server)]
TBL = Tbl("t", (Column("k", INT), Column("v", STR)), unique_by=("k",))
HISTORY = [[Unit(100, [{"k": i, "v": "old"} for i in range(20)])], [Unit(200, [{"k": i, "v": "new"} for i in range(10, 30)])]]

SCRIPT = """
import os, signal, sys
from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, STR
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.testing.sql import FakeFile, Unit, loads

url, where, number = sys.argv[1:]
tbl = Tbl("t", (Column("k", INT), Column("v", STR)), unique_by=("k",))
units = [[Unit(100, [{"k": i, "v": "old"} for i in range(20)])], [Unit(200, [{"k": i, "v": "new"} for i in range(10, 30)])]]
load = loads(tbl, units, (1,))[int(number)]
uploader = Uploader()
uploader.connections = {"db": DbConnection(id="db", url=url)}

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if where == "rows":
    whole = FakeFile.batches
    def batches(self):
        for i, batch in enumerate(whole(self)):
            if i == 4:
                die()
            yield batch
    FakeFile.batches = batches
else:
    with uploader._db.database() as db:
        commit, calls = db.commit, [0]
    def dying():
        calls[0] += 1
        last = calls[0] == (2 if number == "0" else 1)   # the first load makes the table of positions first
        if last and where == "before":
            die()
        commit()
        if last and where == "after":
            die()
    db.commit = dying
uploader.load(load)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param != "postgres":
        return f"{request.param}:///{tmp_path}/target.db"
    found = str(request.getfixturevalue("server"))
    query(found, "DROP SCHEMA IF EXISTS shop CASCADE")
    return found


@contextmanager
def uploader(url: str) -> Iterator[Uploader]:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=url)}
    try:
        yield operator
    finally:
        operator._db.ensure_closed()


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    with uploader(url) as operator, operator._db.database() as db:
        found: Any = db.rows(sql) if sql.startswith("SELECT") else db.run(sql)
    return found if isinstance(found, list) else []


def catch_up(url: str) -> None:
    """What an engine does: ask where the target stands, load the rest."""
    with uploader(url) as operator:
        for load in loads(TBL, HISTORY, (1,)):
            if (operator.position(load.target) or Position()) == load.start:
                operator.load(load)


def assert_each_row_once(url: str) -> None:
    name = '"shop__t"' if url.startswith("sqlite") else '"shop"."t"'
    got = query(url, f"SELECT k, v, _seq, _del FROM {name} ORDER BY _seq")
    old = [(i, "old", 100 + i, 190 + i if i >= 10 else None) for i in range(20)]
    assert got == [*old, *((i, "new", 190 + i, None) for i in range(10, 30))]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("where", ["rows", "before", "after"])
def test_kill_9_in_the_middle_of_a_load(url: str, where: str, number: int) -> None:
    if number:
        with uploader(url) as operator:
            operator.load(loads(TBL, HISTORY, (1,))[0])
    done = subprocess.run([sys.executable, "-c", SCRIPT, url, where, str(number)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    catch_up(url)
    assert_each_row_once(url)
    with uploader(url) as operator, pytest.raises(PositionMoved):
        operator.load(loads(TBL, HISTORY, (1,))[number])


def ended_by_a_rival(url: str, load: FakeLoad, sql: str) -> None:
    """Load, and run `sql` from elsewhere when the first rows are on their way."""
    file = load.files[0]
    whole = file.batches

    def batches() -> Iterator[Any]:
        for i, batch in enumerate(whole()):
            if i == 4:
                query(url, sql)
            yield batch

    file.batches = batches  # type: ignore[method-assign]
    with uploader(url) as operator:
        with pytest.raises(RetryableError) as caught:
            operator.load(load)
        assert not isinstance(caught.value, PositionMoved)
        # the same operator goes on with a new connection
        assert (operator.position(load.target) or Position()) == load.start


@pytest.mark.server
@pytest.mark.parametrize("number", [0, 1])
def test_a_backend_that_is_ended_during_copy_is_tried_again(server: str, number: int) -> None:
    query(server, "DROP SCHEMA IF EXISTS shop CASCADE")
    both = loads(TBL, HISTORY, (1,))
    if number:
        with uploader(server) as operator:
            operator.load(both[0])
    ended_by_a_rival(
        server,
        both[number],
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'",
    )
    catch_up(server)
    assert_each_row_once(server)


@pytest.mark.server
def test_a_password_never_shows(server: str) -> None:
    for bad in (
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://u:hunter2@/nope?host=" + server.split("host=")[-1],
        "postgresql://u:hunter2@h:port/x",
    ):
        with uploader(bad) as operator, pytest.raises(Exception) as caught:
            operator.load(loads(TBL, HISTORY)[0])
        shown = f"{caught.value!r} {getattr(caught.value, 'hint', '')} {caught.value.__cause__!r}"
        assert "hunter2" not in shown


def test_a_duckdb_file_that_another_process_holds_names_it(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path}/target.db"
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, f"{tmp_path}/target.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with uploader(url) as operator, pytest.raises(RetryableError, match=str(holder.pid)):
            operator.load(loads(TBL, HISTORY)[0])
    finally:
        holder.communicate("", timeout=30)
    catch_up(url)
    assert_each_row_once(url)
