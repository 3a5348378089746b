"""Which type becomes what in which database, as rows; a page of the documentation is made of them."""

from __future__ import annotations

from anchovies.plugins.sql.database import Database
from anchovies.plugins.sql.databases.duck import DuckDatabase
from anchovies.plugins.sql.databases.lite import LiteDatabase
from anchovies.plugins.sql.databases.maria import MariaDatabase
from anchovies.plugins.sql.databases.postgres import PostgresDatabase
from anchovies.sdk import ColType, parse_type

SHOWN = (
    "bool", "int", "float", "str", "bytes", "date", "time", "datetime", "datetime(tz)", "decimal(18,2)", "decimal(60,0)",
    "uuid", "json", "list[int]",
)  # fmt: skip
_TEXT = {
    "duckdb": (),
    "sqlite": ("date", "time", "datetime", "datetime_tz", "decimal", "uuid", "json", "list"),
    "postgresql": ("list",),
    "mariadb": ("uuid", "json", "list"),
}


def type_table() -> list[dict[str, str]]:
    """One row a type: `type`, and for each database its word for it and `exact` (its own type) or `text` (the same value).

    Nothing is rounded anywhere, so nothing is `refused` for its type; PostgreSQL refuses the character NUL in a text, MariaDB
    numbers that are NaN or infinite and years that have not four digits.
    """
    return [{"type": name, **{db.kind: _cell(db, parse_type(name)) for db in _DATABASES}} for name in SHOWN]


_DATABASES: tuple[type[Database], ...] = (DuckDatabase, LiteDatabase, PostgresDatabase, MariaDatabase)


def _cell(db: type[Database], type: ColType) -> str:
    word = db.sql_type(db.__new__(db), type)  # a type's name needs no connection
    text = type.kind in _TEXT[db.kind] or (type.kind == "decimal" and word in ("VARCHAR", "longtext"))
    return f"{word} {'text' if text else 'exact'}"
