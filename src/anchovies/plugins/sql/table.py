"""The target table: which columns it has, which it should have, and the statements between the two."""

from __future__ import annotations

from dataclasses import dataclass

from anchovies.plugins.sql.database import Col, Database
from anchovies.plugins.sql.names import HISTORY, column_names, quote
from anchovies.plugins.sql.view import around, refuse_view
from anchovies.sdk import ConfigError, Target, Tbl


@dataclass(frozen=True, slots=True)
class Table:
    """A target table as it will be for a load: `columns` with the types they have after `ddl`."""

    schema: str
    name: str
    relation: str
    columns: tuple[Col, ...]
    exists: bool
    ddl: tuple[str, ...]

    def col(self, source: str) -> Col | None:
        return next((c for c in self.columns if c.source == source), None)


def table_of(db: Database, target: Target) -> Table:
    """Look at the database and plan what is missing. Raises ConfigError where the table cannot hold the columns."""
    tbl = target.tbl
    known = [c for c in tbl.columns if c.type.kind != "null"]
    names = column_names((c.name for c in known), db.reserved, db.short, tbl.name)
    wanted = {c.name: Col(c.name, names[c.name], c.type, db.sql_type(c.type)) for c in known}
    have = db.describe(target.schema, tbl.name)
    relation = db.relation(target.schema, tbl.name)
    if have is None:
        columns = tuple(wanted.values())
        made = _create(db, target, relation, columns)
        ddl = around(db, target, (), [c.name for c in columns], made) if made else ()
        return Table(target.schema, tbl.name, relation, columns, False, ddl)
    refuse_view(db, target)
    _check_history(have, tbl)
    plan = [_fit_column(db, tbl, col, have) for col in wanted.values()]
    columns = tuple(col for col, _, _ in plan)
    news = [c for c, new, _ in plan if new]
    adds = [db.add_column(relation, c.quoted, c.sql) for c in news]
    changes = {c.name: (c.sql, using) for c, _, using in plan if using}
    ddl = (*(db.rebuild(target.schema, tbl.name, changes) if changes else ()), *adds)
    ddl = around(db, target, list(have), [c.name for c in news], ddl)
    return Table(target.schema, tbl.name, relation, columns, True, ddl)


def _create(db: Database, target: Target, relation: str, columns: tuple[Col, ...]) -> tuple[str, ...]:
    if not columns:
        return ()
    history = [f"{quote(n)} bigint" for n in HISTORY] if target.tbl.write_mode == "scd" else []
    body = ", ".join([*(f"{c.quoted} {c.sql}" for c in columns), *history, *db.own_columns])
    return (db.create_table(relation, body),)


def _check_history(have: dict[str, str], tbl: Tbl) -> None:
    if (tbl.write_mode == "scd") != all(n in have for n in HISTORY):
        made = "with" if tbl.write_mode != "scd" else "without"
        raise ConfigError(
            f"tbl {tbl.name}: its table was made {made} _seq and _del, which `write: {tbl.write_mode}` does not fit",
            hint="go back to the `write` it was made with, or drop the table: then everything is loaded again",
            tbl=tbl.name,
        )


def _fit_column(db: Database, tbl: Tbl, col: Col, have: dict[str, str]) -> tuple[Col, bool, str | None]:
    """(the column as it will be, whether it is new, the expression that widens it)."""
    found = next((n for n in have if n == col.name), None) or next((n for n in have if n.casefold() == col.name.casefold()), None)
    if found is None:
        return col, True, None
    old = have[found]
    named = Col(col.source, found, col.type, col.sql)
    if old == col.sql:
        return named, False, None
    if using := db.widening(old, col.sql, quote(found)):
        return named, False, using
    if db.widening(col.sql, old, quote(found)) and "json" not in old.lower():
        return Col(col.source, found, col.type, old), False, None
    raise ConfigError(
        f"tbl {tbl.name}: column {col.source!r} is {col.type} now, which the column of type {old} in the database cannot become",
        hint="give it a wider type under `columns`, rename it, or drop the table: then everything is loaded again",
        tbl=tbl.name,
        column=col.source,
    )
