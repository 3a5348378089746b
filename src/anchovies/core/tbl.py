"""A table as anchovies see it: name, columns, keys, order, properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.types import ColType, parse_type

Write = Literal["scd", "merge", "append", "replace"]


class Column(msgspec.Struct, frozen=True):
    """One column: its name as the source says it, and its type."""

    name: str
    type: ColType


class SortKey(msgspec.Struct, frozen=True):
    """One column of `sort_by`. Descending: the highest value comes first, so it wins. Nulls come last either way."""

    column: str
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.column}" if self.descending else self.column


class Tbl(msgspec.Struct, frozen=True):
    """A table. Frozen: `with_(…)` gives a changed copy.

    `columns` is empty while nothing is known of them. `exclude` and `rename` speak of columns as the source names them, all else
    of columns as they are kept. `properties` are the plugin's own (`path`, `delimiter`, …) and the free ones (`x-…`).
    `declared` are the columns whose type a person wrote down; those of the others were discovered, and follow the source.
    """

    name: str
    columns: tuple[Column, ...] = ()
    unique_by: tuple[str, ...] = ()
    set_by: tuple[str, ...] = ()
    sort_by: tuple[SortKey, ...] = ()
    autodiscover: bool = False
    write: Write | None = None
    schema: Literal["evolve", "freeze", "reject"] = "evolve"
    on_bad_row: Literal["fail", "reject"] = "fail"
    allow_failure: bool = False
    snapshot: bool = False
    deleted_by: str | None = None
    current_view: bool = False
    exclude: tuple[str, ...] = ()
    rename: Mapping[str, str] = msgspec.field(default_factory=dict)
    mask: Mapping[str, str] = msgspec.field(default_factory=dict)
    batch_rows: int | None = None
    batch_bytes: int | None = None
    properties: Mapping[str, Any] = msgspec.field(default_factory=dict)
    declared: frozenset[str] = frozenset()

    def with_(self, **changes: Any) -> Tbl:
        return msgspec.structs.replace(self, **changes)

    @property
    def write_mode(self) -> Write:
        """What an uploader does: `write`, else `scd` where there is a key or a set, else `append`."""
        return self.write or ("scd" if self.unique_by or self.set_by else "append")

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that make a row unique: `unique_by`, else `set_by` and every column of `sort_by`; () where nothing does."""
        if self.unique_by or not self.set_by:
            return self.unique_by
        return tuple(dict.fromkeys([*self.set_by, *(k.column for k in self.sort_by)]))

    @property
    def by_task(self) -> bool:
        """Whether a target takes whole tasks, each as one: rows that are missing from it go."""
        return self.snapshot or self.write == "replace"

    @property
    def reshapes(self) -> bool:
        """Whether rows change on their way: something is left out, renamed or masked."""
        return bool(self.exclude or self.rename or self.mask)

    @property
    def types(self) -> dict[str, ColType]:
        return {c.name: c.type for c in self.columns}

    def describe_keys(self) -> list[str]:
        """In words, what was understood of keys, sets and order (`anchovy plan` prints it)."""
        out = []
        if self.unique_by:
            out.append(f"one row for each {_and(self.unique_by)}")
        if self.set_by:
            out.append(f"rows of one {_and(self.set_by)} are replaced together, by the last unit that brings it")
            if not self.unique_by:
                out.append(f"inside a set, one row for each {_and(self.identity)}")
        if self.sort_by:
            out.append(
                "newest = " + ", then ".join(f"{'highest' if k.descending else 'lowest'} {k.column}" for k in self.sort_by)
            )
        elif self.unique_by:
            out.append("newest = the last that arrived")
        if self.by_task:
            out.append("a task is the whole table: rows that it lacks go; one that did not end, or has no rows, changes nothing")
        if self.deleted_by:
            out.append(f"a row whose {self.deleted_by} is set marks a delete")
        if not out and self.write_mode == "append":
            out.append("no key: every row that arrives is appended")
        return out

    def describe_shape(self) -> list[str]:
        """In words, what becomes of rows on their way into the datastore."""
        out = [f"left out: {', '.join(self.exclude)}"] if self.exclude else []
        out += [f"{old} of the source is kept as {new}" for old, new in self.rename.items()]
        out += [f"{c} is kept as {_MASKED.get(m, m)}" for c, m in self.mask.items()]
        if self.schema != "evolve":
            what = "rows that bring a new column or do not fit go to" if self.schema == "reject" else "new columns and types stop"
            out.append(f"schema: {self.schema}: {what} the {'rejects' if self.schema == 'reject' else 'table'}")
        if self.on_bad_row == "reject":
            out.append("on_bad_row: reject: rows that cannot be kept go to the rejects")
        return out


_MASKED = {"sha256": "a keyed hash (sha256)", "redact": "***"}


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def parse_names(value: Any, where: str) -> tuple[str, ...]:
    """`"a, b"` or `["a", "b"]` → `("a", "b")`. Raises ConfigError naming `where`."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ConfigError(f"{where}: expected column names separated by commas, or a list of them, got {value!r}")
    names = tuple(p.strip() for p in parts)
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{where}: an empty or a repeated column name in {value!r}")
    return names


def parse_sort(value: Any, where: str) -> tuple[SortKey, ...]:
    """`"-updated_at, line"` → sort keys. Raises ConfigError naming `where`."""
    names = parse_names(value, where)
    keys = tuple(SortKey(n.lstrip("-").strip(), n.startswith("-")) for n in names)
    if not all(k.column for k in keys):
        raise ConfigError(f"{where}: a '-' without a column name in {value!r}")
    return keys


def parse_columns(value: Any, where: str) -> tuple[Column, ...]:
    """`{"a": "int"}` → columns. Raises ConfigError naming `where` and the column."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a map of column name to type, got {value!r}")
    out = []
    for name, text in value.items():
        try:
            out.append(Column(str(name), parse_type(text if isinstance(text, str) else repr(text))))
        except ConfigError as e:
            raise ConfigError(f"{where}.{name}: {e}", hint=e.hint) from None
    return tuple(out)
