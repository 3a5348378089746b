"""What a load would do to the structure of a database, in its own words."""

from __future__ import annotations

from collections.abc import Iterator

from anchovies.plugins.sql import position
from anchovies.plugins.sql.database import Database
from anchovies.plugins.sql.loading import index
from anchovies.plugins.sql.table import table_of
from anchovies.sdk import Target


def plan(db: Database, target: Target) -> Iterator[str]:
    """A line a statement, in the order in which they are issued. Raises ConfigError where the table cannot hold the columns."""
    table = table_of(db, target)
    if not position.exists(db, target.schema):
        for statement in (db.create_schema(target.schema), position.ddl(db, target.schema)):
            if statement:
                yield f"issue: {statement}"
    if not table.columns:
        yield f"{target.tbl.name}: its columns are not known yet; the table is made with its first rows"
        return
    for statement in table.ddl:
        yield f"issue: {statement}"
    if not table.exists:
        for statement in index(db, target.tbl, table):
            yield f"issue: {statement}"
    elif not table.ddl:
        yield f"{table.relation} is there with all its columns"
