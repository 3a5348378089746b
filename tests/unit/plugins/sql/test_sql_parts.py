"""Names, URLs and types of the SQL plugin."""

from __future__ import annotations

import ast
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anchovies.plugins.sql as plugin
from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, parse_type
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.plugins.sql.names import column_names, fit, quote
from anchovies.plugins.sql.rows import shortest
from anchovies.plugins.sql.typetable import type_table
from anchovies.sdk import ConfigError
from anchovies.testing.sql import Unit, loads

LOAD = loads(Tbl("t", (Column("k", INT),)), [[Unit(1, [{"k": 1}])]])[0]


def cnxn(url: str) -> DbConnection:
    return DbConnection(id="db", url=url)


@given(st.text(min_size=1).filter(lambda t: "\x00" not in t))
def test_a_quoted_name_is_that_name(name: str) -> None:
    import sqlite3

    con = sqlite3.connect(":memory:")
    try:
        name = name.encode(errors="replace").decode()
        assert con.execute(f"SELECT 1 AS {quote(name)}").description[0][0] == name
    finally:
        con.close()


@given(st.text(min_size=1, max_size=200).filter(lambda t: "\x00" not in t))
def test_a_name_fits_and_stays_its_own(name: str) -> None:
    name = name.encode(errors="replace").decode()
    assert len(fit(name, 63).encode()) <= 63
    if len(name.encode()) > 63:
        assert fit(name, 63) != fit(name + "x", 63)


def test_names_that_would_be_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="'Id' and 'ID'"):
        column_names(["Id", "ID"], frozenset(), str, "t")
    with pytest.raises(ConfigError, match="'_seq' and '_seq_'"):
        column_names(["_seq", "_seq_"], frozenset(), str, "t")
    assert column_names(["_del", "CTID"], frozenset({"ctid"}), str, "t") == {"_del": "_del_", "CTID": "CTID_"}


@pytest.mark.parametrize("url", ["mssql://u:pw@h/d", "oracle://h", "nonsense", "u:pw@h"])
def test_other_databases_are_not_built_yet(url: str) -> None:
    with pytest.raises(ConfigError, match="not built yet|names no database") as caught:
        cnxn(url).check()
    assert "duckdb:///path" in str(caught.value.hint)
    assert "pw" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("url", ["duckdb:///:memory:", "duckdb://", "sqlite://", "sqlite://host/file", "duckdb:///a?b=c"])
def test_a_file_that_would_not_stay_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="names a file"):
        Uploader.fingerprint(_with(url))


def test_relative_and_absolute_files() -> None:
    assert cnxn("sqlite:///a/b.db").path == "a/b.db"
    assert cnxn("duckdb:////a/b%20c.db").path == "/a/b c.db"
    assert cnxn("postgres://u@h/d").path is None


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_files_that_cannot_be(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        _with(f"{kind}:///{tmp_path}/no/such/x.db").load(LOAD)
    (tmp_path / "text.db").write_text("this is no database at all, but long enough to be read as if it were one" * 99)
    operator = _with(f"{kind}:///{tmp_path}/text.db")
    with pytest.raises(ConfigError, match=r"text\.db"):
        operator.load(LOAD)
    operator._db.ensure_closed()


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_the_fingerprint_is_that_of_the_file(kind: str, tmp_path: Path) -> None:
    operator = _with(f"{kind}:///{tmp_path}/x.db")
    assert operator.fingerprint() == "absent"
    operator.load(LOAD)
    found = (tmp_path / "x.db").stat()
    assert operator.fingerprint() == f"{found.st_dev}:{found.st_ino}"
    operator._db.ensure_closed()


def test_decimals_have_one_text() -> None:
    assert [shortest(Decimal(x)) for x in ("1.50", "-0.00", "100", "1E+3", "0.010")] == ["1.5", "0", "100", "1000", "0.01"]


def test_the_manifest_is_read_without_importing() -> None:
    tree = ast.parse(Path(str(plugin.__file__)).read_text())
    found = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "PLUGIN"]  # type: ignore[attr-defined]
    assert found == [plugin.PLUGIN]


def test_importing_it_imports_no_driver() -> None:
    heavy = "{'duckdb', 'psycopg', 'pgpq', 'pymysql', 'pyarrow', 'sqlalchemy'}"
    code = f"import sys, anchovies.plugins.sql; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_the_table_of_types_names_each_type() -> None:
    rows = type_table()
    assert {r["type"] for r in rows} >= {"bool", "int", "decimal(18,2)", "decimal(60,0)", "datetime(tz)", "list[int]"}
    for row in rows:
        parse_type(row["type"])
        assert all(row[k].split()[-1] in ("exact", "text", "refused") for k in ("duckdb", "sqlite", "postgresql", "mariadb"))


def _with(url: str) -> Uploader:
    operator = Uploader()
    operator.connections = {"db": cnxn(url)}
    return operator


def test_another_server_database_is_another_target_and_no_secret_says_so() -> None:
    def of(url: str) -> str | None:
        return Uploader.fingerprint(_with(url))

    assert of("postgresql://me:secret@db.example.com:5433/sales") == "db.example.com:5433/sales"
    assert of("postgresql://me@db.example.com/sales") != of("postgresql://me@db.example.com/other")
    assert of("postgresql:///sales?host=/run/pg&password=secret") == "/run/pg/sales"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:pw@127.0.0.1:1/", "names no database"),
        ("mysql://u:pw@127.0.0.1:x/d", "port"),
        ("mariadb://u:pw@127.0.0.1:1/d?charset=latin1", "'charset'"),
    ],
)
def test_a_url_of_mariadb_that_means_nothing(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        cnxn(url).check()
    assert "pw" not in f"{caught.value}{caught.value.hint}"
