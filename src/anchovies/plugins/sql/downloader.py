"""`sql.Downloader`: tables and views of a database, whole or what is new, as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from anchovies.plugins.sql.increment import parse_increment
from anchovies.plugins.sql.reading import Pick, Reader, Relation, SourceColumn
from anchovies.plugins.sql.source import SourceConnection
from anchovies.sdk import Column, ConfigError, FatalError, Tbl, context, source
from anchovies.sdk import Downloader as Base

if TYPE_CHECKING:
    import pyarrow as pa

PROPERTIES = {
    "table": "the table or view, `schema.table`, or a list of the two; default: the name of the tbl",
    "where": "a condition in the database's SQL: only rows that meet it are read",
    "incremental": "a column that rises with each change: only rows that are new by it are read",
    "lag": "how late rows may be committed behind the highest `incremental`: 15m, 1h; a number where the column is one",
}


class Downloader(Base):
    """Tables and views of a SQL database, found by themselves. All tables of a batch are read as they were at one moment.

    A table is read whole in each run or, with `incremental`, from where the last run came to.
    """

    db: SourceConnection
    tbl_properties: ClassVar[Mapping[str, str]] = PROPERTIES

    @property
    def _db(self) -> SourceConnection:
        found = self.connections.get("db")
        if not isinstance(found, SourceConnection):
            raise ConfigError("sql.Downloader needs the connection 'db'", hint="set ACHVY_CNXN__DB__URL")
        return found

    def discover_tbls(self) -> Iterable[Tbl]:
        """Each table and view that can be read; its primary key is its `unique_by`."""
        relations = self._db.relations()
        home = self._db.home
        for r in relations:
            columns = tuple(Column(c.name, c.type) for c in r.columns if c.is_known)
            if r.columns:
                yield Tbl(_tbl_name(r, home), columns, unique_by=r.key)

    @source()
    def rows(self, tbl: Tbl, **kwds: Any) -> Iterator[pa.RecordBatch]:
        """The rows of one table."""
        relation = self._relation(tbl)
        increment = parse_increment(tbl, relation)
        with self._db.reader() as reader:
            picks = [_pick(reader, c, tbl) for c in relation.columns if c.name not in tbl.exclude]
            where = _where(reader, relation, tbl)
            if increment is None:
                yield from reader.stream(picks, f"FROM {relation.sql}{where and f' WHERE {where}'}")
            else:
                module = import_module("anchovies.plugins.sql.newrows")
                yield from module.NewRows(reader, relation, increment, where, context()).read(picks)

    def plan(self, tbl: Tbl) -> Iterator[str]:
        """What would be read, and from where on."""
        relation = self._relation(tbl)
        increment = parse_increment(tbl, relation)
        kind = "view" if relation.view else "table"
        if increment is None:
            yield f"reads the whole {kind} {relation.sql}"
            return
        at = (context().checkpoint(increment.key).get() or {}).get("after")
        yield f"reads rows of the {kind} {relation.sql} " + (
            f"from {increment.column.name} {at[0]} on" if at else "from the first on"
        )

    def _relation(self, tbl: Tbl) -> Relation:
        """The table or view that `tbl` means. Raises ConfigError where there is none."""
        relations, home = self._db.relations(), self._db.home
        named = tbl.properties.get("table")
        if isinstance(named, list):
            found = [r for r in relations if [r.schema, r.name] == named]
        else:
            found = [r for r in relations if (named or tbl.name) in (_tbl_name(r, home), f"{r.schema}.{r.name}")]
        if not found:
            wanted = ".".join(map(str, named)) if isinstance(named, list) else str(named or tbl.name)
            near = get_close_matches(wanted, [_tbl_name(r, home) for r in relations], 1)
            raise ConfigError(
                f"tbls.{tbl.name}: the database has no table or view {wanted!r} that we may read",
                hint=f"did you mean {near[0]!r}?" if near else "`table: schema.name` says which one it is; or grant SELECT on it",
                tbl=tbl.name,
            )
        if not found[0].columns:
            raise ConfigError(f"tbls.{tbl.name}: {found[0].sql} has no columns, or cannot be read", tbl=tbl.name)
        return found[0]


def _tbl_name(relation: Relation, home: str) -> str:
    """What anchovies call it: its name, with its schema before it where that is not the usual one."""
    name = _safe(relation.name)
    return name if relation.schema == home else f"{_safe(relation.schema)}.{name}"


def _safe(name: str) -> str:
    """A name without what the names of tbls cannot have: `.`, `/` and the like as %2E, %2F."""
    return "".join(f"%{ord(c):02X}" if c in "%./\\" or ord(c) < 32 or ord(c) == 127 else c for c in name)


def _pick(reader: Reader, column: SourceColumn, tbl: Tbl) -> Pick:
    """How a column is read: as it is, or as a person has declared it where only the database can turn it into that."""
    declared = tbl.types.get(column.name) if column.name in tbl.declared else None
    if declared is not None and declared.kind == "str" and column.type.kind != "str":
        return Pick(column.name, reader.as_text(column), declared)
    told = (declared.kind if declared else "", column.type.kind)
    if declared is not None and told in (("decimal", "number"), ("int", "bool")):
        return Pick(column.name, column.expr, declared)
    return Pick(column.name, column.expr, column.type)


def _where(reader: Reader, relation: Relation, tbl: Tbl) -> str:
    """The condition in parentheses. Raises ConfigError for what the database does not take."""
    text = tbl.properties.get("where")
    if text is None:
        return ""
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"tbls.{tbl.name}.where: expected a condition, got {text!r}", hint="where: \"status <> 'draft'\"")
    where = f"({text}\n)"  # on a line of its own: a comment at its end ends there
    try:
        reader.check(f"FROM {relation.sql} WHERE {where}")
    except FatalError as e:
        raise ConfigError(
            f"tbls.{tbl.name}.where: {e.message}", hint="it is SQL as this database speaks it", tbl=tbl.name
        ) from None
    return where
