"""Our own uploader passes the suite that everybody's must pass, on databases that need no server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from anchovies.testing.uploader import UploaderSuite
from anchovies.testing.uploads import Target

COLUMNS = ("id", "name", "price")


def named(rows: Iterable[tuple[Any, ...]]) -> Mapping[str, list[dict[str, Any]]]:
    return {"items": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}


class TestSqlite(UploaderSuite):
    how: Mapping[str, Any] = {}

    def make(self, folder: Path) -> Target:
        file = folder / "target.db"

        def contents() -> Mapping[str, list[dict[str, Any]]]:
            with closing(sqlite3.connect(file)) as db:
                there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'upstream__tester__items'").fetchone()
                return named(db.execute("SELECT id, name, price FROM upstream__tester__items").fetchall() if there else ())

        return Target("sql.Uploader", cnxns={"db": {"url": f"sqlite:///{file}"}}, tbls={"items": self.how}, contents=contents)


class TestSqliteHistory(TestSqlite):
    how = {"unique_by": "id"}


class TestDuckDb(UploaderSuite):
    def make(self, folder: Path) -> Target:
        file = folder / "target.duckdb"

        def contents() -> Mapping[str, list[dict[str, Any]]]:
            with duckdb.connect(str(file)) as db:
                there = db.execute("SELECT 1 FROM information_schema.tables WHERE table_name = 'items'").fetchone()
                return named(db.execute("SELECT id, name, price FROM upstream__tester.items").fetchall() if there else ())

        tbls = {"items": {"unique_by": "id", "write": "merge"}}
        return Target("sql.Uploader", cnxns={"db": {"url": f"duckdb:///{file}"}}, tbls=tbls, contents=contents)
