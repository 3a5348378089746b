"""Column types as Arrow types and back, and batches cast to exactly the columns that are wanted.

Every type has one storage type in Arrow (`to_arrow`). `json` and `uuid` are stored as text; the field's metadata says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from anchovies.core.casts import Unfit, cast, guarded
from anchovies.core.errors import ConfigError, RowError
from anchovies.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    DATETIME_TZ,
    FLOAT,
    INT,
    JSON,
    NULL,
    STR,
    TIME,
    UUID,
    ColType,
    decimal,
    list_of,
    parse_type,
)
from anchovies.core.values import short, to_json

TYPE_KEY = b"anchovies:type"
_STORAGE = {
    NULL: pa.null(), BOOL: pa.bool_(), INT: pa.int64(), FLOAT: pa.float64(), STR: pa.string(), BYTES: pa.binary(),
    DATE: pa.date32(), TIME: pa.time64("us"), DATETIME: pa.timestamp("us"), DATETIME_TZ: pa.timestamp("us", "UTC"),
    UUID: pa.string(), JSON: pa.string(),
}  # fmt: skip


def to_arrow(t: ColType) -> pa.DataType:
    """The storage type of a column type."""
    if t.kind == "decimal":
        return pa.decimal128(t.precision, t.scale) if t.precision <= 38 else pa.decimal256(t.precision, t.scale)
    return pa.list_(field("element", t.item)) if t.item is not None else _STORAGE[t]


def field(name: str, t: ColType) -> pa.Field:
    """A nullable field of the storage type; `json` and `uuid` are told apart from text by its metadata."""
    return pa.field(name, to_arrow(t), metadata={TYPE_KEY: str(t).encode()} if t in (JSON, UUID) else None)


def schema_of(types: Mapping[str, ColType]) -> pa.Schema:
    """The Arrow schema of these columns, in their order."""
    return _schema(tuple(types.items()))


@lru_cache(maxsize=256)
def _schema(types: tuple[tuple[str, ColType], ...]) -> pa.Schema:
    return pa.schema([field(name, t) for name, t in types])


_FLAT: tuple[tuple[Callable[[pa.DataType], bool], ColType], ...] = (
    (pt.is_null, NULL), (pt.is_boolean, BOOL), (pt.is_integer, INT), (pt.is_floating, FLOAT), (pt.is_date, DATE),
    (pt.is_time, TIME), (pt.is_string, STR), (pt.is_large_string, STR), (pt.is_string_view, STR), (pt.is_binary, BYTES),
    (pt.is_large_binary, BYTES), (pt.is_binary_view, BYTES), (pt.is_fixed_size_binary, BYTES), (pt.is_struct, JSON),
    (pt.is_map, JSON), (pt.is_union, JSON),
)  # fmt: skip
_LISTS = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)


def type_of(f: pa.Field) -> ColType:
    """The column type of an Arrow field of any origin. Raises ConfigError for durations, intervals and unknown extensions."""
    t = f.type
    said = (f.metadata or {}).get(TYPE_KEY)
    if said in (b"json", b"uuid") and pt.is_string(t):
        return parse_type(said.decode())
    if isinstance(t, pa.BaseExtensionType):
        return _extension(f)
    if pt.is_decimal(t):
        return decimal(max(t.precision - min(t.scale, 0), t.scale), max(t.scale, 0))
    if pt.is_timestamp(t):
        return DATETIME_TZ if t.tz else DATETIME
    if pt.is_dictionary(t) or pt.is_run_end_encoded(t):
        return type_of(pa.field(f.name, t.value_type))
    if any(is_it(t) for is_it in _LISTS):
        return list_of(type_of(t.value_field))
    for is_it, found in _FLAT:
        if is_it(t):
            return found
    raise ConfigError(f"column {f.name!r} has the Arrow type {t}, which cannot be kept", hint=_CAST, column=f.name)


_CAST = "cast it in the source: a duration to a number of microseconds, an interval to text"


def _extension(f: pa.Field) -> ColType:
    known = {"arrow.uuid": UUID, "arrow.json": JSON}.get(f.type.extension_name)
    return known or type_of(pa.field(f.name, f.type.storage_type))


def types_of(data: pa.RecordBatch | pa.Table) -> dict[str, ColType]:
    """The column types of Arrow data, in order; unsigned values over int64 make a decimal(38,0). Raises ConfigError."""
    out = {}
    for i, f in enumerate(data.schema):
        t = type_of(f)
        if f.type == pa.uint64() and (pc.max(data.column(i)).as_py() or 0) >= 2**63:
            t = decimal(38, 0)
        if f.name in out:
            raise ConfigError(
                f"the data has two columns named {f.name!r}", hint="rename one of them in the source", column=f.name
            )
        out[f.name] = t
    return out


def conform(data: pa.RecordBatch | pa.Table, types: Mapping[str, ColType], *, first_row: int = 0) -> pa.RecordBatch:
    """`data` with exactly the columns of `types`, in order and storage type; absent columns are null.

    Nothing is copied where nothing changes. Raises RowError naming column, row (`where["row"]`: `first_row` + offset) and
    value where one does not fit without loss.
    """
    schema = schema_of(types)
    if isinstance(data, pa.RecordBatch) and data.schema.equals(schema, check_metadata=True):
        return data
    batch = one_batch(data)
    place = {f.name: i for i, f in enumerate(batch.schema)}
    if len(place) < batch.num_columns:
        types_of(batch)  # raises, naming the column
    arrays = []
    for name, t in types.items():
        if name in place:
            arrays.append(_column(batch.column(place[name]), batch.schema.field(place[name]), t, first_row))
        else:
            arrays.append(pa.nulls(batch.num_rows, to_arrow(t)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else batch.select([])


def table_of(batches: Sequence[pa.RecordBatch], types: Mapping[str, ColType]) -> pa.Table:
    """Batches of exactly these columns as one table, also where there are none."""
    return pa.Table.from_batches(batches, schema_of(types))


def one_batch(data: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    """All rows of a table as one batch."""
    if isinstance(data, pa.RecordBatch):
        return data
    arrays = [_joined(c) for c in data.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=data.schema)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _column(array: pa.Array, f: pa.Field, t: ColType, first_row: int) -> pa.Array:
    try:
        have = type_of(f)
        if array.type == pa.uint64() and t.kind == "decimal":
            return cast(guarded(array, pa.decimal128(20, 0)), decimal(20, 0), t, to_arrow(t))
        return cast(normal(array, f), have, t, to_arrow(t))
    except Unfit as e:
        raise row_error(f.name, t, e, first_row) from None


def row_error(name: str, t: ColType | None, e: Unfit, first_row: int = 0) -> RowError:
    """The error of a value that does not fit its column. `where["row"]` counts from 0, the message from 1."""
    row = first_row + e.index
    fit = f"does not fit {t}" if t else "cannot be kept"
    reason = f": {e.reason}" if e.reason else ""
    return RowError(
        f"column {name!r}, row {row + 1}: {short(e.value)} ({type(e.value).__name__}) {fit}{reason}",
        hint="declare another type for the column, or mend the value in the source",
        column=name, row=row, value=short(e.value),
    )  # fmt: skip


def normal(array: pa.Array, f: pa.Field) -> pa.Array:
    """`array` in the storage type of `type_of(f)`. Raises Unfit where a value has no place there (nanoseconds, say)."""
    t = array.type
    if isinstance(t, pa.BaseExtensionType):
        return _unwrapped(array, f)
    if pt.is_dictionary(t):
        return normal(array.dictionary_decode(), pa.field(f.name, t.value_type))
    if pt.is_run_end_encoded(t):
        return normal(pc.run_end_decode(array), pa.field(f.name, t.value_type))
    if any(is_it(t) for is_it in _LISTS):
        return _list(array)
    want = type_of(f)
    if want == JSON and not pt.is_string(t):
        return nested_json(array)
    return guarded(array, to_arrow(want))


def _unwrapped(array: pa.Array, f: pa.Field) -> pa.Array:
    if array.type.extension_name == "arrow.uuid":
        return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())
    if array.type.extension_name == "arrow.json":
        return guarded(array.storage, pa.string())
    return normal(array.storage, pa.field(f.name, array.type.storage_type))


def _list(array: pa.Array) -> pa.Array:
    value_field = array.type.value_field
    plain = array.cast(pa.list_(value_field))
    want = to_arrow(list_of(type_of(value_field)))
    return plain if plain.type.equals(want, check_metadata=True) else relist(plain, normal(plain.values, value_field), want)


def relist(array: pa.Array, values: pa.Array, want: pa.DataType) -> pa.Array:
    """The lists of `array` with other `values`, one for each that was there."""
    validity, offsets = array.buffers()[:2]
    return pa.Array.from_buffers(want, len(array), [validity, offsets], array.null_count, array.offset, [values])


def nested_json(array: pa.Array) -> pa.Array:
    """Structs, maps and unions as the text of a `json` column."""
    how = "strict" if pt.is_map(array.type) and pt.is_string(array.type.key_type) else None
    out: list[str | None] = []
    for i, value in enumerate(array):
        try:
            python: Any = value.as_py(maps_as_pydicts=how)
            out.append(None if python is None else to_json(python))
        except (ValueError, TypeError, KeyError, pa.ArrowException) as e:
            raise Unfit(i, str(value), str(e)) from None
    return pa.array(out, pa.string())
