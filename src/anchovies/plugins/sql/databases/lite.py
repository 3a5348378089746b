"""SQLite: stdlib `sqlite3`, one connection for stage, merge and position; `journal_mode` is the user's own affair."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from anchovies.plugins.sql.database import Col, Database, Row
from anchovies.plugins.sql.names import fit, quote
from anchovies.plugins.sql.rows import Checks, checked, sqlite_turn, unit_ids
from anchovies.sdk import ColType, ConfigError, FatalError, Load, RetryableError, RowError

TYPES = {
    "bool": "BOOLEAN", "int": "INTEGER", "float": "REAL", "str": "TEXT", "bytes": "BLOB", "date": "DATE_TEXT",
    "time": "TIME_TEXT", "datetime": "DATETIME_TEXT", "datetime_tz": "DATETIMETZ_TEXT", "uuid": "UUID_TEXT", "json": "JSON_TEXT",
    "list": "JSON_TEXT", "decimal": "DECIMAL_TEXT",
}  # fmt: skip
"""Declared types. Whatever ends in TEXT has SQLite's text affinity, so nothing is turned into a float behind our back."""

BUSY_MS = 1000
FOR_EVER_MS = 2**31 - 1


class LiteDatabase(Database):
    """A SQLite file. Schemas do not exist: a table is called `<schema>__<tbl>`."""

    kind = "sqlite"
    name_limit = 255
    reserved: ClassVar[frozenset[str]] = frozenset({"rowid", "oid", "_rowid_"})
    addr = "rowid"
    addr_type = "integer"

    def __init__(self, path: str) -> None:
        self.path = path
        if not Path(path).parent.is_dir():
            raise ConfigError(f"the folder of the SQLite file {path} does not exist", hint="make it, or mend the URL")
        with _translated(path):
            self._con = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            self._con.create_collation("anchovies_number", _by_number)
            self._con.execute("PRAGMA legacy_alter_table = ON")  # else no table that a view reads could take another's place

    def limit(self, *, lock: float | None, statement: float | None) -> None:
        if lock is not None:
            self._con.execute(f"PRAGMA busy_timeout = {round(lock * 1000) or FOR_EVER_MS}")
        super().limit(lock=None, statement=statement)

    def run(self, sql: str, *params: object) -> int:
        with _translated(self.path):
            return self._con.execute(sql, _named(params)).rowcount

    def rows(self, sql: str, *params: object) -> list[Row]:
        with _translated(self.path):
            return self._con.execute(sql, _named(params)).fetchall()

    def begin(self) -> None:
        self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        try:
            if self._con.in_transaction:
                self._con.execute("ROLLBACK")
        except sqlite3.Error:
            self.broken = True

    def close(self) -> None:
        self._con.close()

    def attempt(self, sql: str) -> bool:
        try:
            self._con.execute(sql)
        except sqlite3.IntegrityError:
            return False
        return True

    def fill(self, into: str, columns: Sequence[tuple[str, Col]], load: Load, *, seq: bool, unit: bool) -> int:
        names = [name for name, _ in columns] + ['"_seq"'] * seq + ['"_unit"'] * unit
        marks = ", ".join("?" * len(names))
        sql = f"INSERT INTO {into} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
        turns = [(col.source, sqlite_turn(col.type)) for _, col in columns]
        checks, total = Checks(load.target.tbl), 0
        for file, offset, batch in checked(load.files, checks):
            values: list[Sequence[object]] = []
            for source, turn in turns:
                column = batch.column(source).to_pylist()
                values.append(turn(column) if turn else column)
            if seq:
                values.append(range(file.seq + offset, file.seq + offset + batch.num_rows))
            if unit:
                values.append(unit_ids(file, offset, batch.num_rows))
            with _translated(self.path):
                self._con.executemany(sql, zip(*values, strict=True))
            total += batch.num_rows
        checks.done()
        return total

    def describe(self, schema: str, table: str) -> dict[str, str] | None:
        name = self._table(schema, table)
        found = self.rows("SELECT name, type FROM pragma_table_info(:p1)", name)
        return {str(n): str(t) for n, t in found} or None

    def view(self, schema: str, name: str) -> str | None:
        found = self.rows(
            "SELECT iif(type = 'view', sql, '') FROM sqlite_master WHERE name = :p1 COLLATE NOCASE", self._table(schema, name)
        )
        return str(found[0][0]) if found else None

    def replace_view(self, view: str, select: str) -> list[str]:
        return [f"DROP VIEW IF EXISTS {view}", f"CREATE VIEW {view} AS {select}"]

    def _table(self, schema: str, table: str) -> str:
        return fit(f"{schema}__{table}" if schema else table, self.name_limit)

    def relation(self, schema: str, table: str) -> str:
        return quote(self._table(schema, table))

    def create_schema(self, schema: str) -> str | None:
        return None

    def rebuild(self, schema: str, table: str, changes: dict[str, tuple[str, str]]) -> list[str]:
        """SQLite has no way to change a column's type: the table is made anew beside the old one, which then goes."""
        have = self.describe(schema, table) or {}
        old, new = self.relation(schema, table), quote(fit("_anchovies_new__" + self._table(schema, table), self.name_limit))
        body = ", ".join(f"{quote(c)} {changes[c][0] if c in changes else t}" for c, t in have.items())
        exprs = ", ".join(changes[c][1] if c in changes else quote(c) for c in have)
        names = ", ".join(quote(c) for c in have)
        copy = f"INSERT INTO {new} ({names}) SELECT {exprs} FROM {old} ORDER BY rowid"  # noqa: S608
        return [f"CREATE TABLE {new} ({body})", copy, f"DROP TABLE {old}", f"ALTER TABLE {new} RENAME TO {old}"]

    def sql_type(self, type: ColType) -> str:
        return TYPES[type.kind]

    def widening(self, have: str, want: str, column: str) -> str | None:
        if have == "INTEGER" and want in ("REAL", "DECIMAL_TEXT"):
            return f"CAST({column} AS {'REAL' if want == 'REAL' else 'TEXT'})"
        if have == "BLOB" or want not in ("TEXT", "JSON_TEXT"):
            return None
        if have == "BOOLEAN":
            return f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
        quoted = want == "JSON_TEXT" and have not in ("INTEGER", "REAL", "DECIMAL_TEXT")
        return f"CASE WHEN {column} IS NOT NULL THEN json_quote({column}) END" if quoted else f"CAST({column} AS TEXT)"

    def param(self, n: int) -> str:
        return f":p{n}"

    def same(self, a: str, b: str) -> str:
        return f"{a} IS {b}"

    def ordered(self, expr: str, col: Col) -> str:
        return f"{expr} COLLATE anchovies_number" if col.sql == "DECIMAL_TEXT" else expr


def _by_number(a: str, b: str) -> int:
    x, y = Decimal(a), Decimal(b)
    return (x > y) - (x < y)


def _named(params: tuple[object, ...]) -> dict[str, object]:
    """Parameters as `param` names them: :p1, :p2, …"""
    return {f"p{i}": value for i, value in enumerate(params, 1)}


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise RetryableError(
                f"the SQLite file {path} is in use by another process: {e}",
                hint="end its transaction there; -t 15m would have this run wait for up to 15 minutes",
                patient=True,
            ) from e
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise ConfigError(
                f"the SQLite file {path} cannot be written: {e}", hint="look at its permissions, and its folder's"
            ) from e
        if code == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path} is not a SQLite database", hint="mend the URL, or take the file away") from e
        if code == sqlite3.SQLITE_IOERR:
            raise RetryableError(f"the SQLite file {path}: {e}") from e
        if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG):
            raise RowError(f"the SQLite file {path} refuses a row: {e}") from e
        raise FatalError(f"the SQLite file {path}: {e}") from e
