"""Hop 3, shape: how the columns of a table grow, and what keys and order need of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING

from anchovies.core.errors import ConfigError
from anchovies.core.tbl import Tbl
from anchovies.core.types import ColType, join
from anchovies.core.values import short

if TYPE_CHECKING:
    import pyarrow as pa

Types = Mapping[str, ColType]


def join_types(a: Types, b: Types, *, from_text: bool = False) -> dict[str, ColType]:
    """The columns of both: those of `a` in their order, then the new ones of `b`; each type wide enough for both."""
    both = {n: join(t, b[n], from_text=from_text) if n in b else t for n, t in a.items()}
    return {**both, **{n: t for n, t in b.items() if n not in a}}


def evolve(tbl: Tbl, known: Types, found: Types) -> dict[str, ColType]:
    """The columns a table has once rows with `found` arrived in one with `known` (empty: nothing was kept yet).

    Raises ConfigError: `schema: freeze` and something would change, or two names that differ in case only.
    """
    joined = join_types(known, found, from_text=tbl.autodiscover)
    if tbl.schema == "freeze" and known:
        _check_frozen(tbl.name, known, joined)
    check_names(tbl.name, joined)
    return joined


def _check_frozen(name: str, known: Types, joined: Types) -> None:
    changes = [f"{n} is new ({t})" if n not in known else f"{n} would go from {known[n]} to {t}"
               for n, t in joined.items() if known.get(n) != t]  # fmt: skip
    if changes:
        raise ConfigError(
            f"table {name!r} is frozen (schema: freeze), but {'; '.join(changes)}",
            hint="take schema: evolve to let columns be added and widened, or mend the source",
            tbl=name,
        )


def check_names(name: str, columns: Iterable[str]) -> None:
    """Refuse column names that a database cannot tell apart, or that are empty. Raises ConfigError."""
    seen: dict[str, str] = {}
    for column in columns:
        if not column:
            raise ConfigError(f"table {name!r} has a column without a name", tbl=name)
        other = seen.setdefault(column.casefold(), column)
        if other != column:
            raise ConfigError(
                f"table {name!r} has the columns {other!r} and {column!r}, which differ in case only",
                hint="most databases cannot tell them apart: rename one in the source",
                tbl=name, column=column,
            )  # fmt: skip


def check_keys(tbl: Tbl, columns: Iterable[str]) -> None:
    """Every column that unique_by, set_by, sort_by and deleted_by name exists. Raises ConfigError with the nearest name."""
    there = list(columns)
    used = {
        "unique_by": tbl.unique_by,
        "set_by": tbl.set_by,
        "sort_by": tuple(k.column for k in tbl.sort_by),
        "deleted_by": (tbl.deleted_by,) if tbl.deleted_by else (),
    }
    for setting, names in used.items():
        for name in names:
            if name not in there:
                raise _missing(tbl.name, setting, name, there)


def _missing(tbl: str, setting: str, name: str, there: list[str]) -> ConfigError:
    folded = {c.casefold(): c for c in there}
    near = get_close_matches(name.casefold(), folded, n=1)
    hint = f"did you mean {folded[near[0]]!r}?" if near else f"its columns are {', '.join(there[:20])}"
    return ConfigError(f"tbls.{tbl}.{setting}: there is no column {name!r}", hint=hint, tbl=tbl, column=name)


def check_sort_values(tbl: Tbl, batch: pa.RecordBatch) -> None:
    """Refuse to sort numbers as text: '10' would come before '9'. Raises ConfigError that shows two of the values.

    Only text columns of `sort_by` are looked at; a column is refused where all of its values in `batch` look like numbers of
    which at least two differ.
    """
    for key in tbl.sort_by:
        if key.column in batch.schema.names:
            field = batch.schema.field(key.column)
            if str(field.type) == "string" and not field.metadata:
                _check_numbers(tbl.name, key.column, batch.column(key.column).unique().drop_null().to_pylist())


def _check_numbers(tbl: str, column: str, values: list[str]) -> None:
    values = [v for v in values if v]  # an empty field says nothing about the others
    if len(values) < 2 or not all(map(_is_number, values)):
        return
    ordered = sorted(values)
    wrong = ((x, y) for x, y in pairwise(ordered) if float(x) > float(y))
    a, b = next(wrong, (ordered[0], ordered[1]))
    raise ConfigError(
        f"tbls.{tbl}.sort_by: {column!r} is text, but its values look like numbers: as text {short(a)} comes before {short(b)}",
        hint=f"declare the column: columns: {{{column}: int}} (or decimal(p,s), float), or take autodiscover: true",
        tbl=tbl, column=column,
    )  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip("+-. \t")[:1].isdigit() and "_" not in text
