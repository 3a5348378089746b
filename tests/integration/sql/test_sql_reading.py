"""A database that is read for real: rounds of changes from one database into others, and readers that are ended half way."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg
import pymysql
import pytest

from anchovies import run
from anchovies.sdk import ConfigError
from anchovies.testing import mariadb
from anchovies.testing.postgres import missing, postgres

Row = tuple[Any, ...]
TABLES = {
    "customer": "custkey BIGINT NOT NULL PRIMARY KEY, name VARCHAR(25), acctbal DECIMAL(15,2), comment TEXT",
    "orders": "orderkey BIGINT NOT NULL PRIMARY KEY, custkey BIGINT, totalprice DECIMAL(15,2), orderdate DATE, updated_at TIMESTAMP",
    "lineitem": (
        "orderkey BIGINT NOT NULL, linenumber INTEGER NOT NULL, quantity DECIMAL(15,2), price DECIMAL(38,18), shipmode CHAR(10), "
        "updated_at TIMESTAMP, PRIMARY KEY (orderkey, linenumber)"
    ),
}
KEYS = {"customer": 1, "orders": 1, "lineitem": 2}
TBLS = {
    "customer": {"snapshot": True},
    "orders": {"incremental": "updated_at", "lag": "10m"},
    "lineitem": {"incremental": "updated_at"},
}
START = datetime(2026, 1, 1)


def connect(url: str) -> Any:
    if url.startswith("mysql"):
        parts = urlsplit(url)
        return pymysql.connect(host="127.0.0.1", port=parts.port or 0, user="root", database=parts.path[1:])
    return sqlite3.connect(url[10:]) if url.startswith("sqlite") else psycopg.connect(url)


class Shop:
    """The source, of three tables as in TPC-H, and what has to be in a target by now."""

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.random, self.now = url, random.Random(seed), START
        self.rows: dict[str, dict[Row, Row]] = {name: {} for name in TABLES}
        self.history: dict[str, Counter[Row]] = {name: Counter() for name in TABLES}
        self.seen: dict[str, dict[Row, Row]] = {name: {} for name in TABLES}
        self.run([f"CREATE TABLE {name} ({self.typed(columns)})" for name, columns in TABLES.items()])
        for _ in range(60):
            self.new("customer")
            self.new("orders")
            for _ in range(3):
                self.new("lineitem")
        self.write()

    def typed(self, columns: str) -> str:
        """The columns in the source's own words; SQLite itself would make a float of what has more than 15 digits."""
        if self.url.startswith("mysql"):  # whose CHAR has no blanks at its end, and whose TIMESTAMP is something else
            return columns.replace("CHAR(10)", "VARCHAR(10)").replace("TIMESTAMP", "DATETIME")
        return columns.replace("DECIMAL(38,18)", "DECIMAL_TEXT") if self.url.startswith("sqlite") else columns

    def run(self, statements: list[str], rows: dict[str, list[Row]] | None = None) -> None:
        lite = self.url.startswith("sqlite")
        with closing(connect(self.url)) as con:
            cursor: Any = con.cursor()
            for s in statements:
                cursor.execute(s)
            for name, values in (rows or {}).items():
                marks = ", ".join(["?" if lite else "%s"] * len(values[0])) if values else ""
                plain = [tuple(str(v) if lite and isinstance(v, Decimal | date) else v for v in row) for row in values]
                cursor.executemany(f"INSERT INTO {name} VALUES ({marks})", plain)
            con.commit()

    def write(self) -> None:
        self.run([f"DELETE FROM {name}" for name in TABLES], {name: list(rows.values()) for name, rows in self.rows.items()})

    def new(self, name: str, key: Row | None = None) -> None:
        r, money = self.random, Decimal(self.random.randint(-(10**6), 10**9)).scaleb(-2)
        self.now += timedelta(seconds=r.choice([0, 0, 1, 30]))
        n = len(self.rows[name]) + r.randint(0, 5) * 1000
        made: dict[str, Callable[[], Row]] = {
            "customer": lambda: (n, f"Customer#{n:09}", money, r.choice(["", "ä\n'x'", None])),
            "orders": lambda: (n, r.randint(1, 60), money, date(1992, 1, 1) + timedelta(r.randint(0, 2500)), self.now),
            "lineitem": lambda: (n // 3, n % 3, money, Decimal(r.randint(1, 10**30)).scaleb(-18), "AIR       ", self.now),
        }
        row = made[name]()
        row = (key or row[: KEYS[name]]) + row[KEYS[name] :]
        self.rows[name][row[: KEYS[name]]] = row

    def change(self) -> None:
        """New, changed and (of customers) deleted rows."""
        self.now += timedelta(minutes=20)
        for name, rows in self.rows.items():
            for key in self.random.sample(sorted(rows), 12):
                self.new(name, key)
            for _ in range(8):
                self.new(name)
        for key in self.random.sample(sorted(self.rows["customer"]), 4):
            del self.rows["customer"][key]
        self.write()

    def was_read(self) -> None:
        for name, rows in self.rows.items():
            self.history[name].update(row for key, row in rows.items() if self.seen[name].get(key) != row)
            self.seen[name] = dict(rows)


def loaded(kind: str, path: Path | str, name: str, current: bool) -> Counter[Row]:
    """The rows of a target in Python's own values."""
    where = " WHERE _del IS NULL" if current else ""
    columns = ", ".join(c.split()[0] for c in TABLES[name].split(", PRIMARY")[0].split(", ") if c.strip()[0].islower())
    if kind == "duckdb":
        with duckdb.connect(str(path), read_only=True) as con:
            return Counter(con.execute(f"SELECT {columns} FROM shop.{name}{where}").fetchall())
    if kind == "mysql":
        with closing(connect(str(path))) as con, con.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM shop.{name}{where}")
            return Counter(cursor.fetchall())
    with closing(sqlite3.connect(path)) as con:
        return Counter(_python(name, row) for row in con.execute(f"SELECT {columns} FROM shop__{name}{where}"))


def _python(name: str, row: Row) -> Row:
    turns: dict[str, list[Any]] = {
        "customer": [int, str, Decimal, str],
        "orders": [int, int, Decimal, date.fromisoformat, datetime.fromisoformat],
        "lineitem": [int, int, Decimal, Decimal, str, datetime.fromisoformat],
    }
    return tuple(None if v is None else turn(v) for turn, v in zip(turns[name], row, strict=True))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def maria() -> Iterator[str]:
    if reason := mariadb.missing():
        pytest.skip(reason)
    with mariadb.mariadb() as port:
        yield f"mysql://root@127.0.0.1:{port}/mysql"


@pytest.fixture(params=["sqlite", *(pytest.param(k, marks=pytest.mark.server) for k in ("postgresql", "mysql"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/source.db"
    if request.param == "mysql":
        found = str(request.getfixturevalue("maria"))
        with closing(connect(found)) as con, con.cursor() as cursor:
            cursor.execute("CREATE OR REPLACE DATABASE source")
        return found.removesuffix("/mysql") + "/source"

    found = str(request.getfixturevalue("server"))
    with psycopg.connect(found, autocommit=True) as con:
        con.execute("DROP SCHEMA public CASCADE")
        con.execute("CREATE SCHEMA public")
    return found


@pytest.mark.slow
@pytest.mark.server
def test_rounds_of_changes_arrive_exactly(url: str, maria: str, tmp_path: Path) -> None:
    with closing(connect(maria)) as con, con.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS shop")
    shop, store = Shop(url, seed=5), str(tmp_path / "store")
    targets = {"sqlite": tmp_path / "target.sqlite", "duckdb": tmp_path / "target.duckdb", "mysql": maria}
    for number in range(6):
        if number:
            shop.change()
        run("sql.Downloader", id="shop", user="prod", datastore=store, cnxns={"db": {"url": url}}, tbls=TBLS)
        shop.was_read()
        for kind, path in targets.items():
            db = {"db": {"url": str(path) if kind == "mysql" else f"{kind}:///{path}"}}
            run("sql.Uploader", id=f"to_{kind}", user="prod", datastore=store, upstream=["shop"], cnxns=db)
            for name in TABLES:
                assert loaded(kind, path, name, True) == Counter(shop.rows[name].values()), (number, kind, name)
                assert loaded(kind, path, name, False) == shop.history[name], (number, kind, name)


SCRIPT = """
import sys
from anchovies import run
from anchovies.plugins.sql import reading
from anchovies.plugins.sql.readers import lite, maria, postgres

lite.LiteReader.most_rows, maria.MariaReader.most_rows, postgres.BLOCK = 40, 40, 2000
url, store = sys.argv[1:]
tbls = {"orders": {"incremental": "updated_at", "lag": "10m"}, "lineitem": {"incremental": "updated_at"}}
run("sql.Downloader", id="shop", user="prod", datastore=store, cnxns={"db": {"url": url}}, tbls=tbls, commit_seconds=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("hit", [1, 3, 6, 9])
def test_kill_9_in_the_middle_of_reading(url: str, tmp_path: Path, hit: int) -> None:
    shop, store = Shop(url, seed=hit), str(tmp_path / "store")
    words = [sys.executable, "-c", SCRIPT, url, store]
    for number in range(2):
        killed = subprocess.run(words, env={**os.environ, "ACHVY_FAULT": f"sql.read.block:kill@{hit}"}, check=False)
        assert killed.returncode == -9
        subprocess.run(words, env=dict(os.environ), check=True)
        if not number:
            shop.was_read()
            shop.change()
    db = {"db": {"url": f"duckdb:///{tmp_path}/target.duckdb"}}
    tbls = {name: {"write": "append"} for name in TABLES}
    run("sql.Uploader", id="up", user="prod", datastore=store, upstream=["shop"], cnxns=db, tbls=tbls)
    shop.was_read()
    for name in ("orders", "lineitem"):
        assert loaded("duckdb", tmp_path / "target.duckdb", name, False) == shop.history[name], "each version once"


@pytest.mark.server
def test_a_server_that_refuses_us_says_so_without_the_password(server: str, tmp_path: Path) -> None:
    wrong = server.replace("postgres@", "nobody:sesame-of-the-test@")
    with pytest.raises(ConfigError, match="refuses us.*nobody") as e:
        run("sql.Downloader", id="shop", user="prod", datastore=str(tmp_path), cnxns={"db": {"url": wrong}})
    assert "sesame" not in str(e.value)
    assert e.value.hint is not None and "user, password and database" in e.value.hint
