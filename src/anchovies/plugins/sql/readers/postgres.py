"""PostgreSQL: `COPY … TO STDOUT` parsed by Arrow, in one REPEATABLE READ snapshot that several sessions share."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from anchovies.plugins.sql.arrays import batch_of, decimals, unfit
from anchovies.plugins.sql.databases.postgres import PostgresDatabase
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.reading import BLOCK, MARK, NUMBER, Pick, Reader, Relation, SourceColumn, quoted_text
from anchovies.sdk import ColType, RetryableError, RowError
from anchovies.sdk.faults import fault
from anchovies.sdk.rows import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

SESSION = {
    "idle_in_transaction_session_timeout": "0",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "lc_monetary": "C",
}
INT, FLOAT, STR, JSON = ColType("int"), ColType("float"), ColType("str"), ColType("json")
TYPES: dict[str, tuple[ColType, str]] = {
    "int2": (INT, "{}"), "int4": (INT, "{}"), "int8": (INT, "{}"), "oid": (INT, "{}::int8"),
    "float8": (FLOAT, "{}"), "float4": (FLOAT, "{}::float8"), "bool": (ColType("bool"), "{}"),
    "text": (STR, "{}"), "varchar": (STR, "{}"), "bpchar": (STR, "{}"), "bytea": (ColType("bytes"), "encode({}, 'hex')"),
    "date": (ColType("date"), "{}"), "time": (ColType("time"), "{}"), "timestamp": (ColType("datetime"), "{}"),
    "timestamptz": (ColType("datetime_tz"), "({} AT TIME ZONE 'UTC')"), "uuid": (ColType("uuid"), "{}"),
    "json": (JSON, "{}::text"), "jsonb": (JSON, "{}::text"),
}  # fmt: skip
"""Type → ours, and the expression that reads it. Arrays are read as JSON; whatever is not here, as PostgreSQL's text for it."""

COLUMNS = """
SELECT n.nspname, c.relname, c.relkind IN ('v', 'm'), a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::int8,
       a.atttypmod, a.attnotnull, coalesce(array_position(k.conkey, a.attnum), 0)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relname !~ '^_anchovies' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname, a.attnum
"""
KINDS = """
SELECT t.oid::int8, t.typname, t.typtype, t.typbasetype::int8, t.typtypmod, t.typcategory FROM pg_catalog.pg_type t
WHERE t.oid IN (SELECT atttypid FROM pg_catalog.pg_attribute WHERE attnum > 0) OR t.typtype = 'd'
   OR t.oid IN (SELECT typbasetype FROM pg_catalog.pg_type WHERE typtype = 'd')
"""


class PostgresReader(PostgresDatabase, Reader):
    """One connection that reads; tables beside one another have one each, which see the same."""

    def __init__(self, url: str, connection: str) -> None:
        super().__init__(url, connection)
        for name, value in SESSION.items():
            self.rows("SELECT set_config($1, $2, false)", name, value)

    def begin(self, snapshot: str | None = None) -> None:
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            self.run(f"SET TRANSACTION SNAPSHOT {quoted_text(snapshot)}")

    def export(self) -> str | None:
        return str(self.rows("SELECT pg_catalog.pg_export_snapshot()")[0][0])

    def relations(self) -> list[Relation]:
        kinds = {int(str(oid)): tuple(rest) for oid, *rest in self.rows(KINDS)}
        found: dict[tuple[str, str, bool], list[tuple[SourceColumn, int]]] = {}
        for schema, table, view, name, sql, oid, mod, required, place in self.rows(COLUMNS):
            type, expr = _type_of(int(str(oid)), int(str(mod)), kinds)
            column = SourceColumn(str(name), str(sql), type, expr.format(quote(str(name))), not required)
            found.setdefault((str(schema), str(table), bool(view)), []).append((column, int(str(place))))
        return [
            Relation(s, t, f"{quote(s)}.{quote(t)}", tuple(c for c, _ in columns), _key(columns), v)
            for (s, t, v), columns in found.items()
        ]

    def stream(self, picks: Sequence[Pick], rest: str) -> Iterator[pa.RecordBatch]:
        fault("sql.read.before", RetryableError)
        query = self.query(picks, rest)
        whole = False
        try:
            with self._translated(), self._con.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT csv)") as copy:
                for block in _blocks(copy):
                    fault("sql.read.block", RetryableError)
                    yield _parsed(block, picks)
            whole = True
        finally:
            self.broken = self.broken or not whole  # what was cut off has ended the transaction as well

    def mark(self, expr: str, column: SourceColumn) -> str:
        return f"({expr})::text"

    def literal(self, mark: str, column: SourceColumn) -> str:
        return f"{quoted_text(mark)}::text::{column.sql}"

    def settled(self, top: str, column: SourceColumn, lag: float) -> str:
        kind = column.type.kind
        if kind == "date":
            return f"(least({top}, (now() AT TIME ZONE 'UTC')::date + 1) - {int(lag)})"
        if kind == "datetime":
            return f"(least({top}, (now() AT TIME ZONE 'UTC')::timestamp + interval '14 hours') - interval '{lag!r} seconds')"
        if kind == "datetime_tz":
            return f"(least({top}, now()) - interval '{lag!r} seconds')"
        return f"({top} - {lag!r})" if lag else top

    def ranked(self, expr: str, column: SourceColumn) -> str:
        return f'{expr} COLLATE "C"' if column.type.kind == "str" else expr

    def as_text(self, column: SourceColumn) -> str:
        return f"{column.quoted}::text"


def _key(columns: Sequence[tuple[SourceColumn, int]]) -> tuple[str, ...]:
    return tuple(c.name for c, place in sorted(columns, key=lambda pair: pair[1]) if place)


def _type_of(oid: int, mod: int, kinds: dict[int, tuple[object, ...]]) -> tuple[ColType, str]:
    """Our type of a column, and the expression that reads it; a domain is what it is made of."""
    name, kind, base, base_mod, category = kinds[oid]
    if kind == "d":
        return _type_of(int(str(base)), int(str(base_mod)), kinds)
    if category == "A":
        return JSON, "to_json({})::text"
    if name == "numeric":
        return _numeric(mod), "{}"
    return TYPES.get(str(name), (STR, "{}::text"))


def _numeric(mod: int) -> ColType:
    """`numeric(p,s)`; without bounds, the values say what they are. A scale may be negative, or more than all digits."""
    if mod < 4:
        return NUMBER
    precision, scale = (mod - 4) >> 16, (((mod - 4) & 0x7FF) ^ 0x400) - 0x400
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    return ColType("decimal", precision, scale) if precision <= 76 else NUMBER


def _blocks(copy: Iterator[bytes]) -> Iterator[bytes]:
    """What COPY sends, a line or more at a time, in larger pieces."""
    lines: list[bytes] = []
    size = 0
    for line in copy:
        lines.append(bytes(line))
        size += len(line)
        if size >= BLOCK:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def _parsed(block: bytes, picks: Sequence[Pick]) -> pa.RecordBatch:
    import pyarrow as pa
    from pyarrow import csv

    labels = [f"c{i}" for i in range(len(picks))]
    wanted = {label: _csv_type(p.type) for label, p in zip(labels, picks, strict=True)}
    try:
        table = csv.read_csv(
            io.BytesIO(block),
            csv.ReadOptions(column_names=labels, use_threads=False, block_size=len(block) + 1),
            csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=wanted, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as e:
        raise _why(picks, str(e)) from None
    return batch_of(picks, [_column(c.combine_chunks(), p) for c, p in zip(table.columns, picks, strict=True)])


def _csv_type(type: ColType) -> pa.DataType:
    import pyarrow as pa

    if type in (MARK, NUMBER) or type.kind == "bytes":
        return pa.string()
    return pa.timestamp("us") if type.kind == "datetime_tz" else to_arrow(type)


def _column(array: pa.Array, pick: Pick) -> pa.Array:
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    if pick.type == NUMBER:
        return decimals(pick.label, array.to_pylist(), NUMBER)
    if pick.type.kind == "bytes":
        return pa.array([None if v is None else bytes.fromhex(v) for v in array.to_pylist()], pa.binary())
    return array


def _why(picks: Sequence[Pick], text: str) -> RowError:
    """The value that Arrow does not take, and its column, out of Arrow's own words."""
    found = re.search(r"column #(\d+)", text)
    if found is None:
        return RowError(f"a value at the source cannot be kept: {text}")
    pick = picks[int(found[1])]
    return unfit(pick.label, text.rpartition("invalid value ")[2].strip("'"), pick.type)
