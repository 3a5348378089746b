"""`incremental` and `lag` of a table: what they mean for its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from anchovies.plugins.sql.reading import Relation, SourceColumn
from anchovies.sdk import ConfigError, Tbl

TIMES = ("datetime", "datetime_tz")
NUMBERS = ("int", "float", "decimal", "number")
ORDERED = (*TIMES, *NUMBERS, "date", "str", "uuid", "bytes")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
SECONDS = {"s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Increment:
    """`lag` in the measure of the column: seconds, days for dates, else a number. `key`: the name of the checkpoint."""

    column: SourceColumn
    lag: float
    tbl: str

    @property
    def key(self) -> str:
        return f"{self.tbl}.{self.column.name}"


def parse_increment(tbl: Tbl, relation: Relation) -> Increment | None:
    """None where the table is read whole. Raises ConfigError naming the property."""
    name, lag = tbl.properties.get("incremental"), tbl.properties.get("lag")
    if name is None:
        if lag is not None:
            raise _wrong(tbl, "lag", "says nothing without `incremental`", "say which column: incremental: updated_at")
        return None
    column = relation.column(name) if isinstance(name, str) else None
    if column is None:
        have = ", ".join(c.name for c in relation.columns)
        raise _wrong(tbl, "incremental", f"{relation.sql} has no column {name!r}", f"its columns: {have}")
    if column.type.kind not in ORDERED:
        raise _wrong(tbl, "incremental", f"{name!r} is {column.type}, which does not rise", "take a number or a time")
    if tbl.by_task:
        what = "snapshot: true" if tbl.snapshot else "write: replace"
        raise _wrong(tbl, "incremental", f"a table with `{what}` is read whole", "leave out one of the two")
    return Increment(column, _lag(tbl, column, lag), tbl.name)


def _lag(tbl: Tbl, column: SourceColumn, lag: object) -> float:
    kind = column.type.kind
    if lag is None:
        return 0
    found = _SPAN.fullmatch(str(lag).strip())
    if found is None or isinstance(lag, bool):
        raise _wrong(tbl, "lag", f"{lag!r} is no span", "write 90s, 15m, 2h or 1d; a number where the column is one")
    number = float(found[1])
    number = int(number) if number.is_integer() else number
    if kind in TIMES:
        return number * SECONDS[found[2]]
    if kind == "date":
        days = number * SECONDS[found[2]] / 86400
        if not days.is_integer():
            raise _wrong(tbl, "lag", f"{column.name!r} is a date, so {lag!r} has to be whole days", "write 1d")
        return int(days)
    if kind not in NUMBERS:
        raise _wrong(tbl, "lag", f"nothing can be taken from {column.name!r}, which is {column.type}", "take a number or a time")
    if found[2]:
        raise _wrong(tbl, "lag", f"{column.name!r} is a number, so {lag!r} has to be one", f"write {found[1]}")
    return number


def _wrong(tbl: Tbl, key: str, text: str, hint: str) -> ConfigError:
    return ConfigError(f"tbls.{tbl.name}.{key}: {text}", hint=hint, tbl=tbl.name)
