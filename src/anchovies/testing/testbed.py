"""A datastore, an oracle's file and databases that know the answer, and the processes of anchovies that work on them."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.lease import read as read_lease
from anchovies.store.local import LocalStore
from anchovies.store.record import Record
from anchovies.testing import oracle
from anchovies.testing.processes import Hatchery, Run, Spawned

CONFIG = "tbls:\n  a: {unique_by: i}\n  b: {unique_by: i, write: merge}\n  plain: {unique_by: i}\n"
SCHEMA = "oracle__t"
HISTORIES = ("a", "plain")  # tables with `_seq` and `_del`
#: What a hatchery of such processes loads: whatever a run needs, but for pyarrow.
MODULES = (
    "anchovies.cli.start", "anchovies.cli.screen", "anchovies.engine.api", "anchovies.store.faultpoints",
    "anchovies.store.maintain", "duckdb", "psycopg", "sqlite3",
)  # fmt: skip

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


class World:
    """A folder with an oracle's file; runs of `t/oracle` and of uploaders behind it, into databases at `urls` (by kind).

    The datastore is a folder in it, or `datastore` (a URL, with `env` for those who need more to get there, and `opened` for us).
    With a `hatchery`, runs are forked from it; those with a gate, or `fresh`, are always interpreters of their own.
    """

    ENTRY = ENTRY
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(
        self, folder: Path, seed: int, urls: dict[str, str], *, datastore: str = "", env: Mapping[str, str] | None = None,
        opened: Callable[[], Store] | None = None, hatchery: Hatchery | None = None, tables: Sequence[str] = oracle.TABLES,
    ) -> None:  # fmt: skip
        self.folder, self.seed, self.urls, self.tables = folder, seed, urls, tables
        self.random = random.Random(seed)  # noqa: S311
        self.root = folder / "home"
        self.datastore, self.env, self.opened, self.hatchery = datastore, dict(env or {}), opened, hatchery
        self.runs: list[Run] = []
        self.started = 0
        (folder / "oracle.py").write_text(oracle.SOURCE)
        (folder / "tables.yaml").write_text(CONFIG)  # the downloader's alone: what it knows is published

    # processes

    def spawn(
        self,
        *args: str,
        url: str = "",
        lease: bool = True,
        gate: bool = False,
        fresh: bool = False,
        entry: str = ENTRY,
        **oracle_env: object,
    ) -> Any:
        """`anchovy <args>` under user t. `oracle_env`: n=, pace=, step=, … of the source."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
        env = {**clean, "ACHVY_HOME": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", **self.env}
        if self.datastore:
            env["ACHVY_DATASTORE"] = self.datastore
        env |= {f"ORACLE_{k.upper()}": str(v) for k, v in oracle_env.items()}
        if url:
            env["ACHVY_CNXN__DB__URL"] = url
        flags = ["--lease" if lease else "--no-lease", "--gate" if gate else "--open"]
        argv = [*flags, *args, "--user", "t", "--json"]
        self.started += 1
        out = self.folder / f"run{self.started}.out"
        make = Spawned if self.hatchery is None or gate or fresh else self.hatchery.start
        run: Run = make(argv, entry, self.folder, env, out)
        self.runs.append(run)
        return run

    def forget(self, run: Run) -> None:
        """It is over and was judged: a storm of thousands keeps no heap of them."""
        run.close()
        self.runs.remove(run)
        run.out.unlink()
        run.err.unlink()

    def download(self, *args: str, small: Sequence[str] = ("--commit-bytes", "1"), **more: Any) -> Any:
        """A run of the oracle; with `small` as it is, a commit at every mark, or nearly."""
        return self.spawn(
            "start", "-op", "./oracle.py:Ints", "--config-file", "tables.yaml", "-i", "oracle", *small, *args, **more
        )

    def upload(self, kind: str, *args: str, name: str = "", **more: Any) -> Any:
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
    def store(self) -> Store:
        return self.opened() if self.opened is not None else LocalStore(str(self.root))

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
        if kind == "mariadb":
            import pymysql

            place = urlsplit(url)
            with (
                pymysql.connect(host=place.hostname, port=place.port or 0, user=place.username) as maria,
                maria.cursor() as cursor,
            ):
                cursor.execute(sql)
                return list(cursor.fetchall())
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
        for name in self.tables:
            found = logged.get(name, [])
            oracle.check_counted(oracle.firsts(found) if name == "plain" else found, n, f"the log, {name}")
        assert self.checkpoints() == {k: n for k in oracle.CHECKPOINTS if k in self.tables}
        if "plain" not in self.tables:
            return
        plain = [i for i, _ in logged["plain"]]
        lasts = [i for i, after in zip(plain, [*plain[1:], 1], strict=True) if after == 1]
        assert all(last == n or last in ends for last in lasts), f"a task without marks was committed in part: {lasts}"
        assert plain == [i for last in lasts for i in range(1, last + 1)]

    def check_database(self, kind: str, n: int) -> None:
        """Every table holds 1..n, each once; where it keeps a history, each with the `_seq` that the log gave it."""
        logged = self.logged()
        for name in self.tables:
            keeps = name in HISTORIES
            rows = self.query(kind, f"SELECT {'i, _seq, _del' if keeps else 'i'} FROM {{t}}{name} ORDER BY 1")
            assert [r[0] for r in rows] == list(range(1, n + 1)), f"{kind}, {name}: {self.count(kind, name)} of {n}"
            if keeps:
                oracle.check_counted([(r[0], r[1]) for r in rows], n, f"{kind}, {name}")
                assert [(r[0], r[1]) for r in rows] == oracle.firsts(logged[name]), f"{kind}, {name}: not the log's _seq"
                assert {r[2] for r in rows} == {None}
        if "b" in self.tables:
            assert {r[0] for r in self.query(kind, "SELECT twice - 2 * i FROM {t}b")} == {0}

    def check_receipts(self, kind: str, uploader: str, n: int) -> int:
        """An uploader's own log is whole, and says no more than what the database holds: it may lag, it never leads.

        How many loads it tells of: those whose uploader lived to write them down."""
        loaded = [x for r in oracle.records(self.store, self.home(uploader)) for x in r.change.loaded]
        stands = dict(self.query(kind, f"SELECT source_tbl, slot FROM {self.positions(kind)}"))
        for name in self.tables:
            mine = [x for x in loaded if x.tbl == name]
            assert all(a.end <= b.start < b.end for a, b in pairwise(mine)), f"{uploader}, {name}: a receipt twice"
            assert not mine or mine[-1].end <= stands[name]
            assert sum(x.counts.get("inserted", 0) for x in mine) <= n
        return len(loaded)

    def count(self, kind: str, table: str) -> tuple[int, int, int]:
        """(rows, different numbers, greatest)."""
        rows, different, most = self.query(kind, f"SELECT count(*), count(DISTINCT i), max(i) FROM {{t}}{table}")[0]
        return rows, different, most or 0

    def check_prefixes(self, kind: str) -> bool:
        """At any moment: what a database holds of a table is 1..m, each once. False: nobody can look now (a lock, a restart)."""
        sql = "SELECT name FROM sqlite_master" if kind == "sqlite" else "SELECT table_name FROM information_schema.tables"
        try:
            there = {str(r[0]).removeprefix(f"{SCHEMA}__") for r in self.query(kind, sql)}
            counted = {name: self.count(kind, name) for name in self.tables if name in there}
        except busy(kind):
            return False
        for name, (rows, different, most) in counted.items():
            assert rows == different == most, f"{kind}, {name}: {rows} rows, {different} numbers, the greatest {most}"
        return True


def busy(kind: str) -> type[Exception]:
    """What the driver raises where somebody holds the file, or the server is away."""
    if kind == "sqlite":
        return sqlite3.OperationalError
    driver = import_module({"duckdb": "duckdb", "mariadb": "pymysql"}.get(kind, "psycopg"))
    found: type[Exception] = driver.IOException if kind == "duckdb" else driver.OperationalError
    return found
