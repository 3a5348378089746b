"""`current_view: true`: the view `<tbl>_current` of the rows of an `scd` table that are current, without `_seq` and `_del`.

Ours is told from a view that somebody else made by a condition that is always true, as not every database keeps comments.
"""

from __future__ import annotations

from collections.abc import Sequence

from anchovies.plugins.sql.database import Database
from anchovies.plugins.sql.names import HISTORY, quote
from anchovies.sdk import ConfigError, Target

MARK = "made by anchovies"


def view_name(target: Target) -> str:
    return f"{target.tbl.name}_current"


def refuse_view(db: Database, target: Target) -> None:
    """Raises ConfigError where a view has the name of the table: no rows can go there."""
    if db.view(target.schema, target.tbl.name):
        raise ConfigError(
            f"tbl {target.tbl.name}: {db.relation(target.schema, target.tbl.name)} is a view, so it cannot be loaded",
            hint="drop or rename it (if it is the view of another table's current rows, take `current_view` from there), "
            "or load into another schema: ACHVY_CNXN__SCHEMAS__<ID>=name",
            tbl=target.tbl.name,
        )


def around(db: Database, target: Target, have: Sequence[str], new: Sequence[str], ddl: Sequence[str]) -> tuple[str, ...]:
    """`ddl` of a table with what its view needs before and after. `have`: columns that are there, `new`: those that come."""
    wanted = target.tbl.current_view
    if not wanted and not (db.view_blocks and len(ddl) > len(new)):
        return tuple(ddl)
    found, name = _ours(db, target, wanted), view_name(target)
    if not wanted and not found:
        return tuple(ddl)
    columns = [n for n in (*have, *new) if n not in HISTORY]
    shown = list(db.describe(target.schema, name) or ()) if found and have else []
    if shown == columns and not ddl:
        return ()
    view, relation = db.relation(target.schema, name), db.relation(target.schema, target.tbl.name)
    plain = not shown or (columns[: len(shown)] == shown and len(ddl) == len(new))  # it can be replaced as it stands
    drop = (f"DROP VIEW {view}",) if found and db.view_blocks and not plain else ()
    picks = ", ".join(quote(n) for n in columns)
    select = f"SELECT {picks} FROM {relation} WHERE {quote(HISTORY[1])} IS NULL AND '{MARK}' <> ''"  # noqa: S608
    return (*drop, *ddl, *db.replace_view(view, select))


def drops(db: Database, target: Target) -> tuple[str, ...]:
    """What has to go before the table can: our view of it, where that would be in the way or is not wanted any more."""
    scd = target.tbl.write_mode == "scd"
    if (db.view_blocks or not scd) and _ours(db, target, wanted=False):
        return (f"DROP VIEW {db.relation(target.schema, view_name(target))}",)
    return ()


def _ours(db: Database, target: Target, wanted: bool) -> bool:
    """Whether our view is there. Raises ConfigError where something else has its name, if it is `wanted`."""
    found = db.view(target.schema, view_name(target))
    if found is None or MARK in found:
        return found is not None
    if wanted:
        raise ConfigError(
            f"tbl {target.tbl.name}: {db.relation(target.schema, view_name(target))} is there already, and is not the view that "
            "`current_view: true` made",
            hint="drop or rename it, or take `current_view` away",
            tbl=target.tbl.name,
        )
    return False
