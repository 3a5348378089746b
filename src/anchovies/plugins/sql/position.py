"""The position of a target: one row of `_anchovies_position`, in the target's own schema, changed in the transaction of its rows.

A position counts only together with its table: whoever drops the table (or the schema) gets everything loaded again.
"""

from __future__ import annotations

from anchovies.plugins.sql.database import Database
from anchovies.sdk import Position, PositionMoved, RetryableError, Target

TABLE = "_anchovies_position"
_KEY = ("store", "source_user", "source_id", "source_tbl", "target_schema", "target_tbl")


def relation(db: Database, schema: str) -> str:
    return db.relation("", TABLE) if db.create_schema(schema) is None else db.relation(schema, TABLE)


def ddl(db: Database, schema: str) -> str:
    """The statement that makes the table if it is missing."""
    return db.position_ddl(relation(db, schema), _KEY)


def exists(db: Database, schema: str) -> bool:
    return db.describe("" if db.create_schema(schema) is None else schema, TABLE) is not None


def read(db: Database, target: Target, lock: bool = False) -> Position | None:
    """Where the target stands; None before its first load. The table of positions must exist."""
    where = " AND ".join(f"{name} = {db.param(i + 1)}" for i, name in enumerate(_KEY))
    suffix = db.lock_position() if lock else ""
    sql = f"SELECT slot, cid FROM {relation(db, target.schema)} WHERE {where}{suffix}"  # noqa: S608
    found = db.rows(sql, *_key(target))
    return Position(int(str(found[0][0])), str(found[0][1])) if found else None


def claim(db: Database, target: Target) -> Position:
    """Lock the position inside the transaction, so that nobody else loads, and return it as it lies there."""
    marks = ", ".join(db.param(i + 1) for i in range(len(_KEY)))
    db.run(db.insert_once(relation(db, target.schema), (*_KEY, "slot", "cid"), f"{marks}, 0, ''"), *_key(target))
    found = read(db, target, lock=True)
    if found is None:
        raise RetryableError(f"{target.tbl.name}: the row of its position vanished while it was read", tbl=target.tbl.name)
    # touched at once, because DuckDB finds out about a rival only at a write
    _move(db, target, found, found, None)
    return found


def check(target: Target, found: Position, start: Position, table_exists: bool) -> None:
    """Raises PositionMoved unless a load from `start` may be applied. `table_exists`: as seen under the lock."""
    if found != start and (table_exists or start != Position()):
        raise PositionMoved(
            f"{target.tbl.name} stands at commit {found.slot} of {target.source}, not at {start.slot}: somebody else loaded it",
            tbl=target.tbl.name,
        )


def advance(db: Database, target: Target, old: Position, new: Position, consumer: str | None) -> None:
    """Set the position, if it is still `old`."""
    _move(db, target, old, new, consumer)


def _move(db: Database, target: Target, old: Position, new: Position, consumer: str | None) -> None:
    where = " AND ".join(f"{name} = {db.param(i + 4)}" for i, name in enumerate((*_KEY, "slot", "cid")))
    done = db.run(
        f"UPDATE {relation(db, target.schema)} SET slot = {db.param(1)}, cid = {db.param(2)}, "  # noqa: S608
        f"consumer = coalesce({db.param(3)}, consumer) WHERE {where}",
        *(new.slot, new.cid, consumer, *_key(target), old.slot, old.cid),
    )
    if done != 1:
        raise PositionMoved(f"{target.tbl.name}: its position changed while it was loaded", tbl=target.tbl.name)


def _key(target: Target) -> tuple[str, ...]:
    return (target.store, target.user, target.id, target.tbl.name, target.schema, target.tbl.name)
