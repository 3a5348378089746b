"""Hostile names of schemas, tables and columns, and hostile values: nothing of them is executed, and nothing is lost.

500 names a database; ANCHOVIES_NAMES=10000 for more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import parse_type
from anchovies.plugins.sql.table import table_of
from anchovies.sdk import ConfigError, Position
from anchovies.testing.sql import Unit, loads
from anchovies.testing.sqlsubject import Subject

NAMES = int(os.environ.get("ANCHOVIES_NAMES") or 500)
COLUMNS = 20
PIECES = (
    '"', '""', "'", "''", "`", ";", "--", "-- ", "/*", "*/", "#", "\\", "\\'", '\\"', "$$", "$1", "$tag$", "%s", "%(a)s", "%", "{0}", "{", ":p1", "?",
    "@v0", "@@version", ".", " ", "  ", "\t", "\n", "\r\n", "\x01", "\x1a", "\x7f", "é", "e\u0301", "ß", "İ", "ı", "K", "\u202e", "\ufeff", "\u00a0", "漢字", "🐟",
    "\U0010fffd", "select", "SELECT", "table", "user", "order", "null", "true", "_seq", "_del", "_k", "_id", "c0", "c1", "rowid", "oid", "ctid", "xmin",
    "_anchovies_stage", "_anchovies_position", "_anchovies_row", "x" * 70, "ü" * 200, "0", "-1", "1e9", "a", "A", "b",
    "; DROP TABLE victim; --", "'; DROP TABLE victim; --", '"; DROP TABLE victim; --', "`; DROP TABLE victim; --", "); DROP TABLE victim; --",
    "*/; DROP TABLE victim; /*", "\\'; DROP TABLE victim; --", "' OR '1'='1", "${HOME}", "$(id)", "../../x", "/etc/passwd", "\\N", "\\.", ",", "(", ")",
)  # fmt: skip


def hostile(rnd: random.Random) -> str:
    return "".join(rnd.choice(PIECES) for _ in range(rnd.choice([1, 1, 2, 3, 5])))


def names(rnd: random.Random, count: int) -> list[str]:
    """So many that no two are one for a database that ignores case."""
    found: dict[str, str] = {}
    while len(found) < count:
        name = hostile(rnd)
        found.setdefault(name.casefold(), name)
    return list(found.values())


def tbl_of(rnd: random.Random) -> Tbl:
    columns = names(rnd, COLUMNS)
    keys = tuple(columns[: rnd.choice([1, 1, 2])])
    write = rnd.choice(["scd", "scd", "merge", "append"])
    kwds: dict[str, Any] = {} if write == "append" else {"unique_by": keys}
    return Tbl(
        hostile(rnd), tuple(Column(n, parse_type("str")) for n in columns), write=write, current_view=write == "scd", **kwds
    )


def load(subject: Subject, tbl: Tbl, rows: list[dict[str, str]], schema: str, first: int) -> bool:
    """False where the table's names are refused, by name."""
    (one,) = loads(tbl, [[Unit(1 + 100 * first, rows)]], (), None, schema)
    one.start, one.end = Position(first, f"c{first}") if first else Position(), Position(first + 1, f"c{first + 1}")
    try:
        subject.operator.load(one)
    except ConfigError as e:
        assert "would both be called" in str(e), e
        return False
    return True


def current(subject: Subject, tbl: Tbl, schema: str) -> list[tuple[object, ...]]:
    (one,) = loads(tbl, [[Unit(1, [])]], (), None, schema)
    with subject.operator._db.database() as db:
        table = table_of(db, one.target)
        picks = ", ".join(c.quoted for c in table.columns)
        where = ' WHERE "_del" IS NULL' if tbl.write_mode == "scd" else ""
        return sorted(db.rows(f"SELECT {picks} FROM {table.relation}{where}"), key=repr)


@pytest.mark.timeout(600)
def test_names_are_names_and_values_are_values(
    sql_kind: str, subject_of: Callable[[str], Subject], seed: int, notes: list[str]
) -> None:
    subject, rnd, tried, refused = subject_of(sql_kind), random.Random(seed), 0, 0
    schemas = [hostile(rnd) for _ in range(4)]
    with subject.operator._db.database() as db:
        victim = db.relation("", "victim") if sql_kind == "sqlite" else "victim"
        db.run(f"DROP TABLE IF EXISTS {victim}")
        db.run(f"CREATE TABLE {victim} (a int)")
        db.run(f"INSERT INTO {victim} VALUES (42)")
    number = 0
    while tried < NAMES:
        number += 1
        tbl, schema = tbl_of(rnd), f"{rnd.choice(schemas)}{seed % 9999}{sql_kind[:1]}"
        tbl = Tbl(f"{number}{tbl.name}", tbl.columns, write=tbl.write, unique_by=tbl.unique_by, current_view=tbl.current_view)
        rows = [{c.name: f"{i}{hostile(rnd)}" for c in tbl.columns} for i in range(3)]
        told = f"seed {seed}, table {number}: {tbl.name!r} in {schema!r}"
        if not load(subject, tbl, rows, schema, 0):
            refused += 1
            continue
        more = [{**rows[0], tbl.columns[-1].name: hostile(rnd)}, {c.name: f"9{hostile(rnd)}" for c in tbl.columns}]
        assert load(subject, tbl, more, schema, 1), told
        wanted = [*rows, *more] if tbl.write_mode == "append" else [*rows[1:], *more]
        assert current(subject, tbl, schema) == sorted((tuple(r.values()) for r in wanted), key=repr), told
        tried += COLUMNS + 1
    with subject.operator._db.database() as db:
        assert db.rows(f"SELECT a FROM {victim}") == [(42,)]
        db.run(f"DROP TABLE {victim}")
    subject.close()
    notes.append(
        f"hostile names in {sql_kind}: {tried} names in {number - refused} tables, {refused} refused for columns that are one"
    )
