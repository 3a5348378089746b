"""A SQL uploader that is put to the test: one schema of one database, loads made of rows, and a look at what is there.

The servers are started by whoever asks first, and a test that wants a missing one is skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import parse_type
from anchovies.sdk import Position
from anchovies.testing import mariadb, postgres
from anchovies.testing.sql import FakeLoad, Unit, loads

KINDS = ["duckdb", "sqlite", *(pytest.param(kind, marks=pytest.mark.server) for kind in ("postgres", "mariadb"))]
"""Every database of the suite: another one is one word here, and its server one line in SERVERS."""
SERVERS: dict[str, tuple[Callable[[], str | None], Callable[[], Any]]] = {
    "postgres": (postgres.missing, postgres.postgres),
    "mariadb": (mariadb.missing, mariadb.mariadb),
}
SCHEMAS = (f"s{n}" for n in itertools.count())


class Subject:
    """An uploader (made by `make` from a URL), the schema it loads into, and a look at what is there."""

    def __init__(self, kind: str, url: str, folder: str, make: Callable[[str], Any]) -> None:
        self.kind, self.url, self.folder, self.schema = kind, url, folder, next(SCHEMAS)
        self._make = make
        self.operator = self.another()

    def another(self) -> Any:
        return self._make(self.url)

    def loads(self, tbl: Tbl, commits: list[list[Unit]], cuts: Any = (), parquet: bool = False) -> list[FakeLoad]:
        return loads(tbl, commits, cuts, self.folder if parquet else None, self.schema)

    def load(self, tbl: Tbl, *units: Unit, first: int = 0) -> dict[str, int]:
        """One load of one commit, after `first` commits."""
        return {k: v for k, v in self.operator.load(self.one(tbl, *units, first=first)).items() if v}

    def one(self, tbl: Tbl, *units: Unit, first: int = 0) -> FakeLoad:
        (load,) = self.loads(tbl, [list(units)])
        load.start, load.end = Position(first, f"c{first}") if first else Position(), Position(first + 1, f"c{first + 1}")
        return load

    def sql(self, sql: str) -> list[tuple[Any, ...]]:
        with self.operator.connections["db"].database() as db:
            found: list[tuple[Any, ...]] = db.rows(sql)
            return found

    def run(self, sql: str) -> None:
        with self.operator.connections["db"].database() as db:
            db.run(sql)

    def relation(self, name: str) -> str:
        with self.operator.connections["db"].database() as db:
            return str(db.relation(self.schema, name))

    def table(self, tbl: Tbl) -> list[tuple[Any, ...]]:
        names = [c.name for c in tbl.columns] + ["_seq", "_del"] * (tbl.write_mode == "scd")
        picks = ", ".join(f'"{n}"' for n in names)
        return sorted(self.sql(f"SELECT {picks} FROM {self.relation(tbl.name)}"), key=repr)  # noqa: S608

    def close(self) -> None:
        self.operator.connections["db"].ensure_closed()


@contextmanager
def server_urls() -> Iterator[Callable[[str], str]]:
    """The URL of a server by its kind, started when somebody first wants it."""
    with ExitStack() as stack:

        @cache
        def url_of(kind: str) -> str:
            absent, start = SERVERS[kind]
            if reason := absent():
                pytest.skip(reason)
            found = stack.enter_context(start())
            return found if isinstance(found, str) else f"mysql://root@127.0.0.1:{found}/mysql"

        yield url_of


def table(write: Any = None, name: str = "t", columns: dict[str, str] | None = None, **kwds: Any) -> Tbl:
    """A table, by default of the columns k, s, o (numbers) and v (text)."""
    columns = columns or {"k": "int", "s": "int", "o": "int", "v": "str"}
    return Tbl(name, tuple(Column(n, parse_type(t)) for n, t in columns.items()), write=write, **kwds)
