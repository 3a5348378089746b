"""DDL that comes before the transaction, for databases in which it commits by itself.

Each step leaves something that the next try goes on from: a table that is not there counts as never loaded, so its position is
set back before it is made; a table that is made anew is dropped only while its position is the one that was meant.
"""

from __future__ import annotations

from anchovies.plugins.sql import position
from anchovies.plugins.sql.database import Database
from anchovies.plugins.sql.table import table_of
from anchovies.plugins.sql.view import drops
from anchovies.sdk import ConfigError, Position, Target


def make(db: Database, target: Target, replaces: Position | None) -> Position | None:
    """The target's table as it has to be; what is left to be replaced in the transaction: nothing."""
    if replaces is not None:
        _drop(db, target, replaces)
    table = table_of(db, target)
    if table.columns and not table.exists:
        _begin_again(db, target)
    for statement in table.ddl:
        db.run(statement)
    return None


def _drop(db: Database, target: Target, replaces: Position) -> None:
    """Drop the table that is made anew, if it is the one that was meant."""
    if db.describe(target.schema, target.tbl.name) is None:
        return
    relation = db.relation(target.schema, target.tbl.name)
    with db.transaction():
        found = position.claim(db, target)
    if found == Position() and not db.rows(f"SELECT 1 FROM {relation} LIMIT 1"):  # noqa: S608
        return  # an earlier try came this far
    if found == Position():
        raise ConfigError(
            f"the table {relation} is there, but anchovies did not load it",
            hint="drop or rename it, or load into another schema: ACHVY_CNXN__SCHEMAS__<ID>=name",
            tbl=target.tbl.name,
        )
    position.check(target, found, replaces, table_exists=True)
    for statement in (*drops(db, target), f"DROP TABLE {relation}"):
        db.run(statement)


def _begin_again(db: Database, target: Target) -> None:
    """Under the lock, and only while there is still no table: nothing is loaded."""
    with db.transaction():
        found = position.claim(db, target)
        if found != Position() and db.describe(target.schema, target.tbl.name) is None:
            position.advance(db, target, found, Position(), None)
