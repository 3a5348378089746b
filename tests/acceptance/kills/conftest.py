"""Anchovies as real processes that can be killed, stopped and started twice; a datastore and three databases that know the answer."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anchovies.store.keys import Home
from anchovies.store.lease import read as read_lease
from anchovies.store.local import LocalStore
from anchovies.store.record import Record
from anchovies.testing import oracle
from anchovies.testing.postgres import missing, postgres

KINDS = ["duckdb", "sqlite", pytest.param("postgres", marks=pytest.mark.server)]
CONFIG = "tbls:\n  a: {unique_by: i}\n  b: {unique_by: i, write: merge}\n  plain: {unique_by: i}\n"
SCHEMA = "oracle__t"
HISTORIES = ("a", "plain")  # tables with `_seq` and `_del`

#: Waits until its standard input closes, so that several start at one moment; `--no-lease` takes politeness away.
ENTRY = """
import sys
free = sys.argv.pop(1) == "--no-lease"
if free:
    from anchovies.store import lease
    lease.Lease.acquire = lambda self, *a, **k: lease.Held(lease.LeaseInfo())
from anchovies.cli.main import main
if sys.argv.pop(1) == "--gate":
    sys.stdin.read()
main()
"""


class Run:
    """One process of an anchovy, in a process group of its own. Its standard output and error lie in files."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str], out: Path) -> None:
        self.out, self.err = out, out.with_suffix(".err")
        with self.out.open("wb") as stdout, self.err.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True
            )
        self.born = time.monotonic()

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def release(self) -> None:
        """Open the gate."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, signum: int) -> None:
        """To the whole group, if it still runs."""
        if self.code is None:
            os.killpg(self.process.pid, signum)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        while self.code is None and Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.005)

    def kill(self) -> bool:
        """SIGKILL to the whole group. True: it was running, and died of it."""
        self.signal(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()

    @property
    def said(self) -> str:
        return self.err.read_text() + self.out.read_text()

    def result(self) -> dict[str, Any]:
        """What `--json` printed."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found


class World:
    """A folder with a datastore, an oracle's file and databases; runs of `t/oracle` and of uploaders behind it."""

    ENTRY = ENTRY
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, folder: Path, seed: int, urls: dict[str, str]) -> None:
        self.folder, self.seed, self.urls = folder, seed, urls
        self.random = random.Random(seed)
        self.root = folder / "home"
        self.runs: list[Run] = []
        (folder / "oracle.py").write_text(oracle.SOURCE)
        (folder / "tables.yaml").write_text(CONFIG)  # the downloader's alone: what it knows is published

    # processes

    def spawn(
        self, *args: str, url: str = "", lease: bool = True, gate: bool = False, entry: str = ENTRY, **oracle_env: object
    ) -> Run:
        """`anchovy <args>` under user t. `oracle_env`: n=, pace=, step=, … of the source."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
        env = {**clean, "ACHVY_HOME": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {f"ORACLE_{k.upper()}": str(v) for k, v in oracle_env.items()}
        if url:
            env["ACHVY_CNXN__DB__URL"] = url
        flags = ["--lease" if lease else "--no-lease", "--gate" if gate else "--open"]
        command = [sys.executable, "-c", entry, *flags, *args, "--user", "t", "--json"]
        out = self.folder / f"run{len(self.runs)}.out"
        run = Run(command, self.folder, env, out)
        self.runs.append(run)
        return run

    def download(self, *args: str, small: Sequence[str] = ("--commit-bytes", "1"), **more: Any) -> Run:
        """A run of the oracle; with `small` as it is, a commit at every mark, or nearly."""
        return self.spawn(
            "start", "-op", "./oracle.py:Ints", "--config-file", "tables.yaml", "-i", "oracle", *small, *args, **more
        )

    def upload(self, kind: str, *args: str, name: str = "", **more: Any) -> Run:
        """A run of an uploader into one of the databases."""
        who = ["-i", name or f"to_{kind}", "-U", "oracle", "--upstream-may-be-missing"]
        return self.spawn("start", "-op", "sql.Uploader", *who, *args, url=self.urls[kind], **more)

    def close(self) -> None:
        for run in self.runs:
            run.close()

    # what there is

    def home(self, anchovy: str = "oracle") -> Home:
        return Home("t", anchovy)

    @property
    def store(self) -> LocalStore:
        return LocalStore(str(self.root))

    def logged(self) -> dict[str, oracle.Counted]:
        return oracle.in_log(self.store, self.home())

    def checkpoints(self) -> dict[str, Any]:
        return oracle.checkpoints(self.store, self.home())

    def slots(self, anchovy: str = "oracle") -> int:
        return sum(1 for _ in self.store.list(f"{self.home(anchovy).root}/$log/log"))

    def records(self) -> list[Record]:
        return oracle.records(self.store, self.home())

    def lease_is_held(self, anchovy: str = "oracle") -> bool:
        return not read_lease(self.store, self.home(anchovy)).free

    def positions(self, kind: str) -> str:
        """The table of positions, for `query`."""
        return "_anchovies_position" if kind == "sqlite" else "{t}_anchovies_position"

    def query(self, kind: str, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query. `{t}` stands before a table's name: its schema."""
        url = self.urls[kind]
        sql = sql.replace("{t}", f"{SCHEMA}__" if kind == "sqlite" else f"{SCHEMA}.")
        if kind == "postgres":
            import psycopg

            with psycopg.connect(url) as pg:
                return list(pg.execute(sql.encode()).fetchall())
        if kind == "duckdb":
            import duckdb

            with duckdb.connect(url.removeprefix("duckdb:///")) as duck:
                return [tuple(r) for r in duck.execute(sql).fetchall()]
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as lite:
            return list(lite.execute(sql).fetchall())

    # what must be

    def check_log(self, n: int, ends: Container[int] = ()) -> None:
        """The log is whole: every table has 1..n, once (`plain`: in every task that ended, at n or earlier at one of `ends`), and
        the checkpoints say so."""
        logged = self.logged()
        for name in oracle.TABLES:
            found = logged.get(name, [])
            oracle.check_counted(oracle.firsts(found) if name == "plain" else found, n, f"the log, {name}")
        plain = [i for i, _ in logged["plain"]]
        lasts = [i for i, after in zip(plain, [*plain[1:], 1], strict=True) if after == 1]
        assert all(last == n or last in ends for last in lasts), f"a task without marks was committed in part: {lasts}"
        assert plain == [i for last in lasts for i in range(1, last + 1)]
        assert self.checkpoints() == dict.fromkeys(oracle.CHECKPOINTS, n)

    def check_database(self, kind: str, n: int) -> None:
        """Every table holds 1..n, each once; where it keeps a history, each with the `_seq` that the log gave it."""
        logged = self.logged()
        for name in oracle.TABLES:
            keeps = name in HISTORIES
            rows = self.query(kind, f"SELECT {'i, _seq, _del' if keeps else 'i'} FROM {{t}}{name} ORDER BY 1")
            assert [r[0] for r in rows] == list(range(1, n + 1)), f"{kind}, {name}: {self.count(kind, name)} of {n}"
            if keeps:
                oracle.check_counted([(r[0], r[1]) for r in rows], n, f"{kind}, {name}")
                assert [(r[0], r[1]) for r in rows] == oracle.firsts(logged[name]), f"{kind}, {name}: not the log's _seq"
                assert {r[2] for r in rows} == {None}
        assert {r[0] for r in self.query(kind, "SELECT twice - 2 * i FROM {t}b")} == {0}

    def check_receipts(self, kind: str, uploader: str, n: int) -> None:
        """An uploader's own log is whole, and says no more than what the database holds: it may lag, it never leads."""
        loaded = [x for r in oracle.records(self.store, self.home(uploader)) for x in r.change.loaded]
        stands = dict(self.query(kind, f"SELECT source_tbl, slot FROM {self.positions(kind)}"))
        for name in oracle.TABLES:
            mine = [x for x in loaded if x.tbl == name]
            assert all(a.end <= b.start < b.end for a, b in pairwise(mine)), f"{uploader}, {name}: a receipt twice"
            assert mine[-1].end <= stands[name]
            assert sum(x.counts.get("inserted", 0) for x in mine) <= n

    def count(self, kind: str, table: str) -> tuple[int, int, int]:
        """(rows, different numbers, greatest)."""
        rows, different, most = self.query(kind, f"SELECT count(*), count(DISTINCT i), max(i) FROM {{t}}{table}")[0]
        return rows, different, most or 0

    def check_prefixes(self, kind: str) -> None:
        """At any moment: what a database holds of a table is 1..m, each once."""
        sql = "SELECT name FROM sqlite_master" if kind == "sqlite" else "SELECT table_name FROM information_schema.tables"
        there = {str(r[0]).removeprefix(f"{SCHEMA}__") for r in self.query(kind, sql)}
        for name in there & set(oracle.TABLES):
            rows, different, most = self.count(kind, name)
            assert rows == different == most, f"{kind}, {name}: {rows} rows, {different} numbers, the greatest {most}"


@pytest.fixture
def seed(request: pytest.FixtureRequest, notes: list[str]) -> int:
    """Of every random choice of a test; printed, and set again by ANCHOVIES_SEED."""
    found = int(os.environ.get("ANCHOVIES_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ANCHOVIES_SEED={found}")
    notes.append(f"{request.node.name}: ANCHOVIES_SEED={found}")
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """An empty PostgreSQL database's URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as pg:
        pg.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
    yield server


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """URLs of the two databases that are files."""
    return {"duckdb": f"duckdb:///{tmp_path}/x.duckdb", "sqlite": f"sqlite:///{tmp_path}/x.sqlite"}


@pytest.fixture
def world(tmp_path: Path, seed: int, files: dict[str, str]) -> Iterator[World]:
    made = World(tmp_path, seed, files)
    yield made
    made.close()


@pytest.fixture
def wide_world(world: World, database: str) -> World:
    """With PostgreSQL."""
    world.urls["postgres"] = database
    return world


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is so."""

    def wait(so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.01)

    return wait
