"""`sql.Downloader`: what it finds, how each type comes, what it says of what cannot be."""

from __future__ import annotations

import datetime as dt
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg
import pymysql
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, STR
from anchovies.plugins.sql import Downloader, SourceConnection
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.reading import Pick
from anchovies.sdk import ConfigError, FatalError, RowError, parse_type
from anchovies.sdk.context import entered
from anchovies.sdk.rows import batch_to_rows, types_of
from anchovies.testing import mariadb
from anchovies.testing.context import FakeContext
from anchovies.testing.postgres import missing, postgres

KINDS = ["sqlite", "duckdb", *(pytest.param(k, marks=pytest.mark.server) for k in ("postgresql", "mysql"))]


def _maria(url: str, *statements: str) -> None:
    parts = urlsplit(url)
    with (
        closing(pymysql.connect(host="127.0.0.1", port=parts.port or 0, user="root", database=parts.path[1:])) as con,
        con.cursor() as c,
    ):
        c.execute("SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'")
        for s in statements:
            c.execute(s)
        con.commit()


class Source:
    """A database of one kind that a test fills, and a downloader of it."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url
        self.ctx = FakeContext()

    def fill(self, *statements: str) -> None:
        if self.kind == "postgresql":
            with psycopg.connect(self.url, autocommit=True) as con:
                for s in statements:
                    con.execute(s.encode())
            return
        if self.kind == "mysql":
            _maria(self.url, *statements)
            return
        path = self.url.partition(":///")[2]
        connect: Any = sqlite3.connect if self.kind == "sqlite" else duckdb.connect
        with closing(connect(path)) as con:
            for s in statements:
                con.execute(s)
            con.commit()

    def tbls(self) -> dict[str, Tbl]:
        with self._open() as d:
            return {t.name: t for t in d.discover_tbls()}

    def read(self, name: str = "t", tbl: Tbl | None = None, **properties: Any) -> list[dict[str, Any]]:
        """Rows of a table, as Python values. The types are as discovered, or wider: see `types`."""
        rows: list[dict[str, Any]] = []
        self.types: dict[str, Any] = {}
        with self._open() as d, entered(self.ctx):
            for batch in d.rows(tbl or Tbl(name, properties=properties)):
                self.types |= types_of(batch)
                rows += batch_to_rows(batch)
        return rows

    def _open(self) -> Any:
        d = Downloader()
        d.connections = {"db": SourceConnection(id="db", url=self.url)}

        class Opened:
            def __enter__(self) -> Downloader:
                return d

            def __exit__(self, *exc: object) -> None:
                d.connections["db"].ensure_closed()

        return Opened()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def maria() -> Iterator[int]:
    if reason := mariadb.missing():
        pytest.skip(reason)
    with mariadb.mariadb() as port:
        yield port


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    name = f"t{uuid.uuid4().hex}"
    if request.param == "mysql":
        url = f"mysql://root@127.0.0.1:{request.getfixturevalue('maria')}"
        _maria(f"{url}/mysql", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield Source("mysql", f"{url}/{name}")
        return
    if request.param != "postgresql":
        yield Source(request.param, f"{request.param}:///{tmp_path}/source.db")
        return
    url = request.getfixturevalue("server")
    with psycopg.connect(url, autocommit=True) as con:
        con.execute(f"CREATE DATABASE {name}".encode())
    yield Source(
        "postgresql", url.replace("/postgres", f"/{name}", 1) if "@/" not in url else url.replace("@/postgres", f"@/{name}")
    )


def all_but(*kinds: str) -> pytest.MarkDecorator:
    """`source` is every database but these."""
    wanted = [k for k in KINDS if (k if isinstance(k, str) else k.values[0]) not in kinds]
    return pytest.mark.parametrize("source", wanted, indirect=True)


# ---- what there is


def test_tables_and_views_are_found_with_keys_and_types(source: Source) -> None:
    source.fill(
        "CREATE TABLE items (order_id INTEGER NOT NULL, n INTEGER NOT NULL, price DECIMAL(12,3), note TEXT, PRIMARY KEY (n, order_id))",
        "CREATE VIEW notes AS SELECT note FROM items",
        "CREATE TABLE _anchovies_position (a INTEGER)",
    )
    found = source.tbls()
    assert sorted(found) == ["items", "notes"]
    assert found["items"].unique_by == ("n", "order_id")
    assert {c.name: str(c.type) for c in found["items"].columns} == {
        "order_id": "int",
        "n": "int",
        "price": "decimal(12,3)",
        "note": "str",
    }
    assert found["notes"].unique_by == ()


@all_but("sqlite", "mysql")  # SQLite has no schemas; of MariaDB the database of the URL is read
def test_other_schemas_come_with_their_name(source: Source) -> None:
    source.fill("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id INTEGER)", "INSERT INTO sales.orders VALUES (4)")
    assert list(source.tbls()) == ["sales.orders"]
    assert source.read("sales.orders") == [{"id": 4}]
    assert source.read("orders", table="sales.orders") == [{"id": 4}]
    assert source.read("orders", table=["sales", "orders"]) == [{"id": 4}]


HOSTILE = ['a"b', "a'b", "a.b", "select", "x; DROP TABLE victim --", "Größe 🐟", "A", "%s $1 {0} :p1", "c0", "_anchovies", "at"]


def test_hostile_names_are_names(source: Source) -> None:
    source.fill("CREATE TABLE victim (a INTEGER)")
    for n, name in enumerate(HOSTILE):
        name = name.replace("🐟", "ü") if source.kind == "mysql" else name  # which has no such letter in its names
        table = name if name != "_anchovies" else "under"
        columns = f"{quote(name)} INTEGER, {quote(name + '2')} TEXT, PRIMARY KEY ({quote(name)})"
        source.fill(f"CREATE TABLE {quote(table)} ({columns})", f"INSERT INTO {quote(table)} VALUES ({n}, 'x''y'), (90, 'z')")
        kept = table.replace(".", "%2E").replace("%s", "%25s")
        assert source.read(kept) == [{name: n, name + "2": "x'y"}, {name: 90, name + "2": "z"}]
        assert len(source.read(kept, incremental=name)) == 2
        assert source.read(kept, incremental=name) == []
    assert "victim" in source.tbls()


# ---- types

VALUES: dict[str, list[tuple[str, str, str, Any]]] = {
    "sqlite": [
        ("INTEGER", str(-(2**63)), "int", -(2**63)), ("DECIMAL(10,2)", "1.1", "decimal(10,2)", Decimal("1.10")),
        ("NUMERIC", "12.345", "decimal(5,3)", Decimal("12.345")), ("REAL", "0.1", "float", 0.1), ("TEXT", "''", "str", ""),
        ("BLOB", "x'00ff'", "bytes", b"\x00\xff"), ("BOOLEAN", "1", "bool", True), ("DATE", "'2024-02-29'", "date", dt.date(2024, 2, 29)),
        ("TIME", "'10:00:00.5'", "time", dt.time(10, 0, 0, 500_000)),
        ("DATETIME", "'2024-01-01 10:00:00'", "datetime", dt.datetime(2024, 1, 1, 10)),
        ("DATETIME", "'2024-01-01T10:00:00Z'", "datetime(tz)", dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
        ("DATETIME", "1700000000", "int", 1700000000), ("TIMESTAMP", "'soon'", "str", "soon"), ("JSON", "'{}'", "json", {}),
        ("", "5", "int", 5), ("", "'007'", "str", "007"), ("VARCHAR(10)", "'ab '", "str", "ab "),
        ("DECIMAL_TEXT", "'123456789012345678901234567890.123456789'", "decimal(39,9)", Decimal("123456789012345678901234567890.123456789")),
    ],
    "duckdb": [
        ("UBIGINT", str(2**64 - 1), "decimal(20,0)", Decimal(2**64 - 1)), ("HUGEINT", str(2**127 - 1), "decimal(39,0)", Decimal(2**127 - 1)),
        ("DECIMAL(38,10)", "1.0000000001", "decimal(38,10)", Decimal("1.0000000001")), ("DOUBLE", "'NaN'", "float", float("nan")),
        ("TINYINT", "-5", "int", -5), ("VARCHAR", "''", "str", ""), ("BLOB", r"'\x00\xFF'", "bytes", b"\x00\xff"), ("BOOLEAN", "true", "bool", True),
        ("DATE", "'2024-02-29'", "date", dt.date(2024, 2, 29)), ("TIME", "'10:00:00.5'", "time", dt.time(10, 0, 0, 500_000)),
        ("TIMESTAMP", "'2024-01-01 10:00:00.000001'", "datetime", dt.datetime(2024, 1, 1, 10, 0, 0, 1)),
        ("TIMESTAMP_NS", "'2024-01-01 10:00:00'", "datetime", dt.datetime(2024, 1, 1, 10)),
        ("TIMESTAMPTZ", "'2024-01-01 10:00:00+02'", "datetime(tz)", dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)),
        ("UUID", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'", "uuid", uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
        ("JSON", """'{"a": 1}'""", "json", {"a": 1}), ("INTEGER[]", "[1, NULL]", "json", [1, None]), ("STRUCT(a INTEGER)", "{'a': 1}", "json", {"a": 1}),
        ("ENUM('x', 'y')", "'y'", "str", "y"), ("INTERVAL", "INTERVAL 1 DAY", "str", "1 day"), ("BIT", "'101'", "str", "101"),
    ],
    "mysql": [
        ("bigint", str(-(2**63)), "int", -(2**63)), ("bigint unsigned", str(2**64 - 1), "decimal(20,0)", Decimal(2**64 - 1)),
        ("tinyint", "-5", "int", -5), ("tinyint(1)", "1", "bool", True), ("year", "2026", "int", 2026), ("bit(3)", "5", "decimal(20,0)", Decimal(5)),
        ("decimal(38,10)", "1.0000000001", "decimal(38,10)", Decimal("1.0000000001")),
        ("decimal(65,2)", "1" * 63, "decimal(65,2)", Decimal("1" * 63 + ".00")),
        ("float", "0.1", "float", 0.10000000149011612), ("double", "0.1", "float", 0.1), ("text", "''", "str", ""),
        ("varchar(20) CHARACTER SET latin1", "'Größe'", "str", "Größe"), ("text", r"'a,\n\\\t🐟'", "str", "a,\n\\\t🐟"), ("enum('x','y')", "'y'", "str", "y"),
        ("varbinary(9)", "x'00ff'", "bytes", b"\x00\xff"), ("blob", "''", "bytes", b""), ("date", "'2024-02-29'", "date", dt.date(2024, 2, 29)),
        ("time(1)", "'10:00:00.5'", "time", dt.time(10, 0, 0, 500_000)),
        ("datetime(6)", "'2024-01-01 10:00:00.000001'", "datetime", dt.datetime(2024, 1, 1, 10, 0, 0, 1)),
        ("timestamp NULL", "'2024-01-01 10:00:00'", "datetime(tz)", dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
        ("uuid", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'", "uuid", uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
        ("longtext COMMENT 'json'", """'{"a": 1}'""", "json", {"a": 1}), ("inet6", "'::1'", "str", "::1"),
    ],
    "postgresql": [
        ("smallint", "-5", "int", -5), ("bigint", str(2**63 - 1), "int", 2**63 - 1),
        ("numeric(38,10)", "1.0000000001", "decimal(38,10)", Decimal("1.0000000001")), ("numeric(5,-2)", "12345", "decimal(7,0)", Decimal(12300)),
        ("numeric(2,4)", "0.0012", "decimal(4,4)", Decimal("0.0012")),
        ("numeric", "123456789012345678901234567890.123456789", "decimal(39,9)", Decimal("123456789012345678901234567890.123456789")),
        ("real", "0.1", "float", 0.10000000149011612), ("float8", "'-Infinity'", "float", float("-inf")), ("boolean", "true", "bool", True),
        ("text", "''", "str", ""), ("text", r"E'a,\n\\.\n\"'", "str", 'a,\n\\.\n"'), ("char(4)", "'ab'", "str", "ab  "),
        ("bytea", r"'\x00ff'", "bytes", b"\x00\xff"), ("bytea", "''", "bytes", b""),
        ("date", "'2024-02-29'", "date", dt.date(2024, 2, 29)), ("time", "'10:00:00.5'", "time", dt.time(10, 0, 0, 500_000)),
        ("timestamp", "'2024-01-01 10:00:00.000001'", "datetime", dt.datetime(2024, 1, 1, 10, 0, 0, 1)),
        ("timestamptz", "'2024-01-01 10:00:00+02'", "datetime(tz)", dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)),
        ("uuid", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'", "uuid", uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
        ("json", """'{"a": 1}'""", "json", {"a": 1}), ("jsonb", "'[1]'", "json", [1]), ("int[]", "'{1,NULL}'", "json", [1, None]),
        ("interval", "'1 day'", "str", "1 day"), ("int4range", "'[1,3)'", "str", "[1,3)"), ("timetz", "'10:00+02'", "str", "10:00:00+02"),
    ],
}  # fmt: skip


def test_each_type_comes_exactly(source: Source) -> None:
    for words, literal, kind, value in VALUES[source.kind]:
        source.fill(
            "DROP TABLE IF EXISTS t", f"CREATE TABLE t (v {words}, n INTEGER)", f"INSERT INTO t VALUES ({literal}, 1), (NULL, 2)"
        )
        found = [r["v"] for r in source.read()]
        assert repr(found).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") == repr([value, None]), words
        assert source.types["v"] == parse_type(kind), words
        known = source.tbls()["t"].types.get("v")
        assert known in (None, parse_type(kind)), words


def test_a_column_of_nulls_alone_keeps_its_rows(source: Source) -> None:
    source.fill("CREATE TABLE t (v TEXT)", "INSERT INTO t VALUES (NULL), (''), (NULL)")
    assert [r["v"] for r in source.read()] == [None, "", None]


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00")), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
@pytest.mark.server
def test_any_text_comes_through_copy(server: str, texts: list[str]) -> None:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as con:
        con.execute(f"CREATE TABLE {name} (n bigserial PRIMARY KEY, v text)".encode())
        with con.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {name} (v) VALUES (%s)".encode(), [(t,) for t in texts])
    source = Source("postgresql", server)
    assert [r["v"] for r in source.read(name)] == texts
    assert [r["v"] for r in source.read(name, incremental="v")] == sorted(texts)
    with psycopg.connect(server, autocommit=True) as con:
        con.execute(f"DROP TABLE {name}".encode())


WRONG = {
    "sqlite": [("INTEGER", "'abc'"), ("DECIMAL(4,1)", "0.123"), ("TEXT", "x'00'"), ("BOOLEAN", "2"), ("DATE", "'2024-02-30'")],
    "duckdb": [("TIMESTAMP_NS", "'2024-01-01 10:00:00.000000001'"), ("BIGNUM", f"'{10**80}'")],
    "mysql": [("tinyint(1)", "5"), ("time", "'-10:00:00'"), ("date", "'2024-00-00'")],
    "postgresql": [("timestamp", "'infinity'"), ("date", "'0044-03-15 BC'"), ("numeric(4,2)", "'NaN'"), ("time", "'24:00'")],
}


def test_a_value_that_cannot_be_kept_is_named_and_can_be_read_as_text(source: Source) -> None:
    for words, literal in WRONG[source.kind]:
        if words == "TIMESTAMP_NS":
            continue  # the engine itself refuses what is finer than a microsecond
        first = "'2024-02-28'" if words == "DATE" else "NULL"
        source.fill("DROP TABLE IF EXISTS t", f"CREATE TABLE t (v {words})", f"INSERT INTO t VALUES ({first}), ({literal})")
        with pytest.raises(RowError, match="column 'v'") as e:
            source.read()
        assert "columns: {v: str}" in str(e.value.hint)
        as_text = Tbl("t", (Column("v", STR),), declared=frozenset({"v"}))
        if words != "TEXT":  # which is text, and a blob in it is none
            assert isinstance(source.read(tbl=as_text)[1]["v"], str), words


# ---- what is picked


def test_where_and_exclude_are_the_databases_affair(source: Source) -> None:
    source.fill("CREATE TABLE t (a INTEGER, b TEXT)", "INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'x')")
    assert source.read(where="b = 'x' -- and so on") == [{"a": 1, "b": "x"}, {"a": 3, "b": "x"}]
    assert source.read(tbl=Tbl("t", exclude=("b",))) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [r["a"] for r in source.read(incremental="a", where="a = 2 OR a = 3")] == [2, 3]


@pytest.mark.parametrize(
    ("name", "properties", "said"),
    [
        ("ordrs", {}, r"tbls.ordrs: the database has no table or view 'ordrs'"),
        ("t", {"table": "nope.t"}, r"tbls.t: the database has no table or view 'nope.t'"),
        ("t", {"where": "b ="}, r"tbls.t.where: "),
        ("t", {"where": 5}, r"tbls.t.where: expected a condition"),
        ("t", {"incremental": "c"}, r"tbls.t.incremental: .* has no column 'c'"),
        ("t", {"incremental": "f"}, r"tbls.t.incremental: 'f' is bool"),
        ("t", {"incremental": "a", "lag": "5m"}, r"tbls.t.lag: 'a' is a number"),
        ("t", {"incremental": "a", "lag": "soon"}, r"tbls.t.lag: 'soon' is no span"),
        ("t", {"incremental": "b", "lag": "5"}, r"tbls.t.lag: nothing can be taken from 'b'"),
        ("t", {"lag": "5m"}, r"tbls.t.lag: says nothing without"),
    ],
)
def test_what_cannot_be_is_said(source: Source, name: str, properties: dict[str, Any], said: str) -> None:
    source.fill("CREATE TABLE t (a INTEGER, b TEXT, f BOOLEAN)", "CREATE TABLE orders (a INTEGER)")
    with pytest.raises(ConfigError, match=said) as e:
        source.read(name, **properties)
    assert e.value.hint


def test_a_table_that_is_read_whole_is_not_read_in_increments(source: Source) -> None:
    source.fill("CREATE TABLE t (a INTEGER)")
    with pytest.raises(ConfigError, match="`snapshot: true` is read whole"):
        source.read(tbl=Tbl("t", snapshot=True, properties={"incremental": "a"}))


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for kind in ("sqlite", "duckdb"):
        with pytest.raises(ConfigError, match="there is no"):
            Source(kind, f"{kind}:///{tmp_path}/none.db").tbls()
    assert list(tmp_path.iterdir()) == []


# ---- one state of it


@all_but("duckdb")  # nobody can write while it is open for reading
def test_all_tables_are_read_as_they_were_at_one_moment(source: Source) -> None:
    source.fill("CREATE TABLE a (n INTEGER)", "CREATE TABLE b (n INTEGER)", "INSERT INTO a VALUES (1)")
    if source.kind == "sqlite":
        source.fill("PRAGMA journal_mode = wal")
    with source._open() as d, entered(source.ctx):
        first = [r for batch in d.rows(Tbl("a")) for r in batch.to_pylist()]
        source.fill("INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (2)")
        second = [r for batch in d.rows(Tbl("b")) for r in batch.to_pylist()]
    assert (first, second) == ([{"n": 1}], [])
    assert source.read("b") == [{"n": 2}]


def test_it_cannot_write(source: Source) -> None:
    source.fill("CREATE TABLE t (a INTEGER)")
    if source.kind == "duckdb":
        with source._open() as d, d.connections["db"].reader() as reader, pytest.raises(FatalError, match=r"(?i)read.?only"):
            reader.first([Pick("n", "1", INT)], "FROM t; INSERT INTO t VALUES (1)")
        return
    table = "t" if source.kind == "sqlite" else "public.t"
    with pytest.raises(ConfigError, match="tbls.t.where"):
        source.read(where=f"true); INSERT INTO {table} VALUES (1) --")
    if source.kind == "postgresql":
        source.fill("CREATE FUNCTION f() RETURNS bool LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING true'")
        source.fill("INSERT INTO t VALUES (7)")
        with pytest.raises(FatalError, match="read-only transaction"):
            source.read(where="f()")
        source.fill("DELETE FROM t WHERE a = 7")
    assert source.read() == []
