"""DuckDB: Arrow, as it comes. A file that is opened for reading cannot be written meanwhile, so all that is read is one state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anchovies.plugins.sql.arrays import batch_of, decimals
from anchovies.plugins.sql.databases.duck import _translated
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.reading import NUMBER, Pick, Reader, Relation, SourceColumn, quoted_text
from anchovies.sdk import ColType, ConfigError, RetryableError
from anchovies.sdk.faults import fault

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 16_384
INT, FLOAT, STR = ColType("int"), ColType("float"), ColType("str")
TYPES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), INT),
    "UBIGINT": ColType("decimal", 20, 0), "HUGEINT": ColType("decimal", 39, 0), "UHUGEINT": ColType("decimal", 39, 0),
    "BIGNUM": NUMBER, "VARINT": NUMBER, "FLOAT": FLOAT, "DOUBLE": FLOAT, "BOOLEAN": ColType("bool"), "VARCHAR": STR,
    "BLOB": ColType("bytes"), "DATE": ColType("date"), "TIME": ColType("time"), "TIMESTAMP": ColType("datetime"),
    "TIMESTAMP_S": ColType("datetime"), "TIMESTAMP_MS": ColType("datetime"), "TIMESTAMP_NS": ColType("datetime"),
    "TIMESTAMP WITH TIME ZONE": ColType("datetime_tz"), "UUID": ColType("uuid"), "JSON": ColType("json"),
}  # fmt: skip
COLUMNS = """
SELECT c.schema_name, c.table_name, t.view, c.column_name, c.data_type, c.is_nullable
FROM duckdb_columns() c JOIN (
    SELECT table_oid AS oid, false AS view FROM duckdb_tables() WHERE NOT internal AND database_name = current_database()
    UNION ALL SELECT view_oid, true FROM duckdb_views() WHERE NOT internal AND database_name = current_database()
) t ON c.table_oid = t.oid
WHERE c.database_name = current_database() AND NOT starts_with(c.table_name, '_anchovies')
ORDER BY c.schema_name, c.table_name, c.column_index
"""
KEYS = """
SELECT schema_name, table_name, constraint_column_names FROM duckdb_constraints()
WHERE constraint_type = 'PRIMARY KEY' AND database_name = current_database()
"""


class DuckReader(Reader):
    """A DuckDB file, opened for reading; tables beside one another have a cursor each."""

    def __init__(self, path: str) -> None:
        self.path = path
        if not Path(path).is_file():
            raise ConfigError(f"there is no DuckDB file {path}", hint="mend the URL; what is read has to be there")
        try:
            import duckdb
        except ImportError:
            raise ConfigError("DuckDB is not installed", hint="pip install 'anchovies[duckdb]'") from None
        with _translated(path):
            self._con: Any = duckdb.connect(path, read_only=True)
            self._con.execute("SET TimeZone = 'UTC'")

    def begin(self, snapshot: str | None = None) -> None:
        """Nobody can write as long as the file is open for reading."""

    def relations(self) -> list[Relation]:
        with _translated(self.path), self._con.cursor() as cursor:
            keys = {(s, t): tuple(names) for s, t, names in cursor.execute(KEYS).fetchall()}
            columns = cursor.execute(COLUMNS).fetchall()
        found: dict[tuple[str, str, bool], list[SourceColumn]] = {}
        for schema, table, view, name, sql, nullable in columns:
            found.setdefault((schema, table, view), []).append(_column_of(name, sql, nullable))
        return [
            Relation(s, t, f"{quote(s)}.{quote(t)}", tuple(columns), keys.get((s, t), ()), v)
            for (s, t, v), columns in found.items()
        ]

    def stream(self, picks: Sequence[Pick], rest: str) -> Iterator[pa.RecordBatch]:
        fault("sql.read.before", RetryableError)
        query = self.query(picks, rest)
        with _translated(self.path), self._con.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
            for batch in cursor.sql(query).to_arrow_reader(BATCH_ROWS):
                fault("sql.read.block", RetryableError)
                yield batch_of(picks, [_turned(batch.column(i), p) for i, p in enumerate(picks)])

    def close(self) -> None:
        self._con.close()

    def mark(self, expr: str, column: SourceColumn) -> str:
        return f"CAST({expr} AS VARCHAR)"

    def literal(self, mark: str, column: SourceColumn) -> str:
        return f"CAST({quoted_text(mark)} AS {column.sql})"

    def settled(self, top: str, column: SourceColumn, lag: float) -> str:
        kind, now = column.type.kind, "(now() AT TIME ZONE 'UTC')"
        if kind == "date":
            return f"(least({top}, CAST({now} AS DATE) + 1) - {int(lag)})"
        if kind == "datetime":
            return f"(least({top}, {now} + INTERVAL 14 HOURS) - to_microseconds({round(lag * 1_000_000)}))"
        if kind == "datetime_tz":
            return f"(least({top}, now()) - to_microseconds({round(lag * 1_000_000)}))"
        return f"({top} - {lag!r})" if lag else top


def _column_of(name: str, sql: str, nullable: bool) -> SourceColumn:
    """Ours of a type of DuckDB; nested ones come as Arrow has them, all others (intervals, bits, …) as text."""
    expr, decimal = quote(name), sql.startswith("DECIMAL(") and sql.endswith(")")
    if decimal:
        precision, scale = (int(n) for n in sql[8:-1].split(","))
        return SourceColumn(name, sql, ColType("decimal", precision, scale), expr, nullable)
    if sql.endswith("]") or sql.startswith(("STRUCT(", "MAP(", "UNION(")):
        return SourceColumn(name, sql, ColType("json"), f"CAST(to_json({expr}) AS VARCHAR)", nullable)
    type = TYPES.get(sql, STR)
    plain = sql in TYPES and type.kind not in ("decimal", "uuid", "json", "number")
    return SourceColumn(name, sql, type, expr if plain else f"CAST({expr} AS VARCHAR)", nullable)


def _turned(array: pa.Array, pick: Pick) -> pa.Array:
    """Numbers that Arrow has no type for in DuckDB's hands come as text, and are exact."""
    import pyarrow as pa

    number = pick.type == NUMBER or pick.type.kind == "decimal"
    return decimals(pick.label, array.to_pylist(), pick.type) if number and pa.types.is_string(array.type) else array
