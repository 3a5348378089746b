"""One load: position, DDL, rows, position, in one transaction."""

from __future__ import annotations

from anchovies.plugins.sql import ahead, position
from anchovies.plugins.sql.database import Col, Database
from anchovies.plugins.sql.history import STAGE, Merge
from anchovies.plugins.sql.names import fit, quote
from anchovies.plugins.sql.table import Table, table_of
from anchovies.plugins.sql.view import drops
from anchovies.sdk import ConfigError, Load, Position, RetryableError, RowError, Target, Tbl
from anchovies.sdk.faults import fault


def check_mode(tbl: Tbl) -> None:
    """Raises ConfigError for what cannot be, for a key that is missing, and for a column in it that is."""
    mode = tbl.write_mode
    if mode == "append" and (tbl.snapshot or tbl.deleted_by):
        what = "snapshot: true" if tbl.snapshot else "deleted_by"
        raise ConfigError(
            f"tbl {tbl.name}: `{what}` cannot be with `write: append`, which never takes a row away",
            hint="add unique_by, so that rows can be told apart, or say `write: replace`",
            tbl=tbl.name,
        )
    if not tbl.identity and (mode in ("scd", "merge") or (mode == "replace" and tbl.deleted_by)):
        raise ConfigError(
            f"tbl {tbl.name}: `write: {mode}` needs to know what makes a row one row",
            hint="add unique_by (or set_by), or say `write: append`",
            tbl=tbl.name,
        )
    if tbl.current_view and mode != "scd":
        raise ConfigError(
            f"tbl {tbl.name}: `current_view: true` is of tables with history (`write: scd`), and this one is `write: {mode}`",
            hint="take `current_view` away: every row of its table is current",
            tbl=tbl.name,
        )
    named = [*tbl.unique_by, *tbl.set_by, *(k.column for k in tbl.sort_by), *([tbl.deleted_by] if tbl.deleted_by else [])]
    if mode != "append" and tbl.columns and (absent := [n for n in named if n not in tbl.types]):
        raise ConfigError(
            f"tbl {tbl.name}: there is no column {absent[0]!r}, which unique_by, set_by, sort_by or deleted_by names",
            hint=f"columns: {', '.join(tbl.types)}",
            tbl=tbl.name,
        )


def prepare(db: Database, schema: str) -> None:
    """Make the schema and the table of positions, in a transaction of their own: harmless, and nobody waits for them."""
    if not position.exists(db, schema):
        with db.transaction():
            for statement in (db.create_schema(schema), position.ddl(db, schema)):
                if statement:
                    db.run(statement)


def apply(db: Database, load: Load, consumer: str | None) -> dict[str, int]:
    """Apply `load`, or nothing of it; the counts. Raises PositionMoved where the target does not stand at `load.start`, and
    RowError for a row that the database refuses."""
    target = load.target
    check_mode(target.tbl)
    prepare(db, target.schema)
    replaces = load.replaces
    if db.ddl_commits:
        replaces = ahead.make(db, target, load.replaces)
    with db.transaction():
        table, old, counts = _within(db, load, replaces)
        fault("sql.rows.after", RetryableError)
        position.advance(db, target, old, load.end, consumer)
    if db.key_index == "after" and load.rows:
        for statement in index(db, target.tbl, table):
            db.run(statement)
    return counts


def _within(db: Database, load: Load, replaces: Position | None) -> tuple[Table, Position, dict[str, int]]:
    """The table and the rows, in a transaction: the table, where the target stood, and the counts."""
    target = load.target
    old = position.claim(db, target)
    if replaces is not None:
        _clear(db, target, old, replaces)
    table = table_of(db, target)  # only now, as nobody else can change it any more
    position.check(target, old, replaces or load.start, table.exists or not table.columns)
    if db.ddl_commits and table.ddl:
        raise RetryableError(f"tbl {target.tbl.name}: somebody else changed its table meanwhile", tbl=target.tbl.name)
    for statement in table.ddl:
        db.run(statement)
    return table, old, _rows(db, load, table) if load.rows else {}


class _TakenBackError(Exception):
    """It went well, and is not meant to stay."""


def refusal(db: Database, part: Load) -> RowError | None:
    """What the database says against `part` of a load that it refused; None: nothing. Nothing of it stays."""
    try:
        with db.transaction():
            _within(db, part, None if db.ddl_commits else part.replaces)
            raise _TakenBackError
    except _TakenBackError:
        return None
    except RowError as e:
        return e


def _clear(db: Database, target: Target, found: Position, replaces: Position) -> None:
    """Drop the table that is made anew, if it is the one that was meant."""
    if db.describe(target.schema, target.tbl.name) is None:
        return
    relation = db.relation(target.schema, target.tbl.name)
    if found == Position():
        raise ConfigError(
            f"the table {relation} is there, but anchovies did not load it",
            hint="drop or rename it, or load into another schema: ACHVY_CNXN__SCHEMAS__<ID>=name",
            tbl=target.tbl.name,
        )
    position.check(target, found, replaces, table_exists=True)
    for statement in (*drops(db, target), f"DROP TABLE {relation}"):
        db.run(statement)


def _rows(db: Database, load: Load, table: Table) -> dict[str, int]:
    tbl = load.target.tbl
    if not table.columns:
        raise ConfigError(f"tbl {tbl.name}: no column has a value, so none has a type", hint="say them under `columns`")
    direct = [(c.quoted, c) for c in table.columns]
    if tbl.write_mode == "append" or not tbl.identity:
        gone = db.run(f"DELETE FROM {table.relation}") if tbl.by_task and not _is_empty(db, table) else 0  # noqa: S608
        return {"inserted": db.fill(table.relation, direct, load, seq=False, unit=False), "expired": gone}
    merge = Merge(db, tbl, table)
    if not tbl.set_by and not tbl.deleted_by and _is_new(db, table, tbl) and (done := _first_load(db, load, table)):
        return {"inserted": done}
    db.drop_temp(STAGE)
    stage = [(quote(f"c{i}"), c) for i, c in enumerate(table.columns)]
    body = ", ".join([*(f"{name} {c.sql}" for name, c in stage), '"_seq" bigint', '"_unit" bigint'])
    db.make_temp(STAGE, columns=body, keys=("_seq",))
    db.fill(STAGE, stage, load, seq=True, unit=True)
    db.analyze(STAGE)
    counts = merge.run()
    db.drop_temp(STAGE)
    if db.key_index == "inside":
        for statement in index(db, tbl, table):
            db.run(statement)
    return counts


def _is_new(db: Database, table: Table, tbl: Tbl) -> bool:
    """Whether the table never had rows: one that a whole task has emptied has its key already."""
    return not table.exists or (not tbl.by_task and _is_empty(db, table))


def _is_empty(db: Database, table: Table) -> bool:
    return not db.rows(f"SELECT 1 FROM {table.relation} LIMIT 1")  # noqa: S608


def _first_load(db: Database, load: Load, table: Table) -> int:
    """Straight into the empty table, then the key; 0, and the table empty again, where a key comes twice."""
    history = load.target.tbl.write_mode == "scd"
    done = db.fill(table.relation, [(c.quoted, c) for c in table.columns], load, seq=history, unit=False)
    keys = _keys(load.target.tbl, table)
    if db.key_index == "inside":
        unique = all(db.attempt(statement) for statement in index(db, load.target.tbl, table))
    else:
        unique = not any(db.rows(f"SELECT 1 FROM {table.relation} {wrong} LIMIT 1") for wrong in _not_a_key(keys))  # noqa: S608
    if not unique:
        db.run(f"DELETE FROM {table.relation}")  # noqa: S608
    return done if unique else 0


def _not_a_key(keys: list[Col]) -> list[str]:
    """What finds a key that is null or comes twice (the way over the stage says which, or sorts it out)."""
    names = [c.quoted for c in keys]
    return [f"WHERE {' OR '.join(f'{n} IS NULL' for n in names)}", f"GROUP BY {', '.join(names)} HAVING count(*) > 1"]


def _keys(tbl: Tbl, table: Table) -> list[Col]:
    return [c for n in tbl.identity if (c := table.col(n))]


def index(db: Database, tbl: Tbl, table: Table) -> list[str]:
    """The statement that makes the key's index (unique among the current rows if it can be); it comes with the first rows."""
    bag = tbl.set_by and not tbl.unique_by and not tbl.sort_by
    if not db.key_index or tbl.write_mode == "append" or (bag and db.key_index == "inside"):
        return []
    keys = _keys(tbl, table)
    name = fit(f"{table.schema}__{table.name}__key", db.name_limit)
    made = db.index(name, table.relation, keys, tbl.write_mode == "scd") if keys else None
    return [made] if made else []
