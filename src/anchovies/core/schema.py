"""Python rows to record batches: the types of a chunk are made from all of its rows, and nothing is ever guessed.

pyarrow's own inference looks at the first rows only, drops keys that appear later, mixes zones and overflows at 2**63; so no
array is made here without a type.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, TypeAlias
from uuid import UUID as Uuid

import pyarrow as pa

from anchovies.core import kinds
from anchovies.core.arrow import TYPE_KEY, row_error, schema_of, to_arrow
from anchovies.core.casts import Unfit, cast
from anchovies.core.errors import RowError
from anchovies.core.types import BOOL, BYTES, DATE, FLOAT, JSON, NULL, STR, TIME, UUID, ColType, join
from anchovies.core.values import from_json, to_json

Row = Mapping[str, object]


def types_of_rows(rows: Sequence[Row]) -> dict[str, ColType]:
    """The columns of all rows, in the order in which they first appear, each of the narrowest type that holds every value.

    Raises RowError naming column and row for a value that no column can hold.
    """
    return {name: _named(name, None, values)[0] for name, values in _columns(rows).items()}


def rows_to_batch(rows: Sequence[Row], declared: Mapping[str, ColType] | None = None, *, first_row: int = 0) -> pa.RecordBatch:
    """One batch of all rows. Declared columns come first, in their order, with the declared type; others are inferred.

    Texts in declared number, date, time and uuid columns are parsed, strictly. Absent keys are null. Raises RowError naming
    column, row (`where["row"]`: `first_row` + offset) and value.
    """
    return columns_to_batch(_columns(rows), len(rows), declared or {}, first_row=first_row)


Values: TypeAlias = Sequence[Any] | pa.Array


def columns_to_batch(
    columns: Mapping[str, Values], count: int, declared: Mapping[str, ColType], *, first_row: int = 0
) -> pa.RecordBatch:
    """The same of `count` rows that are columns already: Python values, or texts in an array."""
    names = list(dict.fromkeys([*declared, *columns]))
    if not names:
        raise RowError("rows without any column cannot be kept", hint="yield dicts with at least one key", row=first_row)
    absent = [None] * count
    made = [_named(name, declared.get(name), columns.get(name, absent), first_row) for name in names]
    schema = schema_of(dict(zip(names, (t for t, _ in made), strict=True)))
    return pa.RecordBatch.from_arrays([array for _, array in made], schema=schema)


def batch_to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as dicts; `json` columns as what they say, `uuid` columns as UUIDs."""
    columns = [_objects(batch.column(i), f) for i, f in enumerate(batch.schema)]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


_FROM_TEXT: dict[bytes, Callable[[str], Any]] = {b"json": from_json, b"uuid": Uuid}


def _objects(array: pa.Array, f: pa.Field) -> list[Any]:
    values: list[Any] = array.to_pylist()
    read = _FROM_TEXT.get((f.metadata or {}).get(TYPE_KEY, b""))
    return values if read is None else [None if v is None else read(v) for v in values]


def _columns(rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    """The values of each name, absent ones as None."""
    if not rows:
        return {}
    names = list(rows[0])
    if len(names) > 1 and set(map(len, rows)) == {len(names)}:
        try:  # as a rule all rows have the same keys: then each row is touched once, not once a column
            return _checked(rows, dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True)))
        except KeyError:
            pass
    return _checked(rows, {n: [row.get(n) for row in rows] for n in dict.fromkeys(chain.from_iterable(rows))})


def _checked(rows: Sequence[Row], columns: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    for name in columns:
        if not isinstance(name, str) or not name:
            i = next(i for i, row in enumerate(rows) if name in row)
            raise RowError(f"row {i + 1} has the column name {name!r}; names are texts, and not empty", row=i)
    return columns


def _named(name: str, want: ColType | None, values: Values, first_row: int = 0) -> tuple[ColType, pa.Array]:
    """The column's type and array; `want` None: the type is inferred."""
    try:
        return _texts(values, want) if isinstance(values, pa.Array) else column(values, want)
    except Unfit as e:
        raise row_error(name, want, e, first_row) from None


@dataclass(frozen=True, slots=True)
class _Group:
    """The values of one kind. `rows`: where they stand in the column; None: the group is the whole column, nulls included."""

    have: ColType
    values: Sequence[Any]
    rows: list[int] | None


def _texts(values: pa.Array, want: ColType | None) -> tuple[ColType, pa.Array]:
    """`column` of texts in an array, none of them null; for types that do not take texts apart."""
    want = want or STR
    return want, cast(values, STR, want, to_arrow(want))


def column(values: Sequence[Any], want: ColType | None) -> tuple[ColType, pa.Array]:
    """One column of Python values: its type (`want`, or the inferred one) and its array. Raises Unfit."""
    if want is not None and want.kind == "json":
        return want, _json(values)
    if want is not None and want.item is not None:
        return want, _lists(values, want)
    if (want is None or want == STR) and set(map(type, values)) == {str}:
        return STR, _array(values, STR)  # as most columns are, in most rows: one look is enough
    values, found = kinds.plain(values)
    found.discard("null")
    if not found or found == {"json"}:
        t = want or (JSON if found else NULL)
        return t, _json(values) if found and t == JSON else _nothing_else(values, t)
    groups = _groups(values, found)
    if want is None:
        return _inferred(values, groups)
    return want, _assembled(groups, want, len(values))


def _nothing_else(values: Sequence[Any], t: ColType) -> pa.Array:
    """Nulls; a dict or list in a column of another type does not fit."""
    for i, v in enumerate(values):
        if v is not None:
            raise Unfit(i, v)
    return pa.nulls(len(values), to_arrow(t))


def _groups(values: Sequence[Any], found: set[str]) -> list[_Group]:
    if len(found) == 1:
        return [_Group(_type_of_kind(next(iter(found)), values), values, None)]
    places: dict[str, list[int]] = {}
    for i, v in enumerate(values):
        places.setdefault(kinds.of_class(type(v))[0], []).append(i)
    out = []
    for kind, rows in places.items():
        picked = [values[i] for i in rows]
        try:
            out.append(_Group(_type_of_kind(kind, picked), picked, rows))
        except Unfit as e:
            raise Unfit(rows[e.index], e.value, e.reason) from None
    return out


_SIMPLE = {"null": NULL, "bool": BOOL, "float": FLOAT, "str": STR, "bytes": BYTES, "date": DATE, "uuid": UUID, "json": JSON}


def _type_of_kind(kind: str, values: Sequence[Any]) -> ColType:
    if kind == "int":
        return kinds.int_type(values)
    if kind == "decimal":
        return kinds.decimal_type(values)
    if kind == "datetime":
        return kinds.datetime_type(values)
    if kind == "time":
        for i, v in enumerate(values):
            if v is not None and v.tzinfo is not None:
                raise Unfit(i, v, "a time of day with a zone cannot be kept; take a datetime")
        return TIME
    return _SIMPLE[kind]


def _inferred(values: Sequence[Any], groups: list[_Group]) -> tuple[ColType, pa.Array]:
    t = reduce(join, (g.have for g in groups))
    if {g.have.kind for g in groups} >= {"datetime", "datetime_tz"}:
        raise AssertionError("datetime_type refuses mixed zones")
    if t != JSON:
        try:
            return t, _assembled(groups, t, len(values))
        except Unfit:
            if len(groups) == 1 or t.kind != "float":
                raise  # not a matter of mixed kinds
    return JSON, _json(values)  # an int that a float cannot hold, or kinds that have nothing in common: keep each as it is


def _assembled(groups: list[_Group], want: ColType, length: int) -> pa.Array:
    storage = to_arrow(want)
    if groups[0].rows is None:
        return cast(_array(groups[0].values, groups[0].have), groups[0].have, want, storage)
    parts, order = [], []
    for g in groups:
        assert g.rows is not None
        try:
            parts.append(cast(_array(g.values, g.have), g.have, want, storage))
        except Unfit as e:
            raise Unfit(g.rows[e.index], g.values[e.index], e.reason) from None
        order += g.rows
    place = [0] * length
    for at, row in enumerate(order):
        place[row] = at
    return pa.concat_arrays(parts).take(pa.array(place, pa.int64()))


def _array(values: Sequence[Any], have: ColType) -> pa.Array:
    """Values of one kind in its storage type. Raises Unfit."""
    if have == UUID:
        values = [None if v is None else str(v) for v in values]
    elif have == JSON:
        return _json(values)
    try:
        return pa.array(values, to_arrow(have))
    except UnicodeEncodeError:
        i = next(i for i, v in enumerate(values) if v is not None and not _encodes(v))
        raise Unfit(i, values[i], "it holds half of a surrogate pair, which is no character") from None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(values: Sequence[Any]) -> pa.Array:
    out = []
    for i, v in enumerate(values):
        try:
            out.append(None if v is None else to_json(v))
        except (ValueError, TypeError) as e:
            raise Unfit(i, v, str(e)) from None
    return pa.array(out, pa.string())


def _lists(values: Sequence[Any], want: ColType) -> pa.Array:
    for i, v in enumerate(values):
        if v is not None and not isinstance(v, list | tuple):
            raise Unfit(i, v)
    ends = [0, *accumulate(0 if v is None else len(v) for v in values)]
    try:
        _, items = column([item for v in values if v is not None for item in v], want.item)
    except Unfit as e:
        raise Unfit(bisect_right(ends, e.index) - 1, e.value, e.reason) from None
    missing = pa.array([v is None for v in values], pa.bool_())
    made = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, mask=missing)
    return pa.Array.from_buffers(to_arrow(want), len(made), made.buffers()[:2], made.null_count, 0, [items])
