"""DuckDB: reads verified Parquet files itself; anything else is handed over as Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from anchovies.plugins.sql.database import Col, Database, Row
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.rows import Checks, as_text, checked, unit_ids
from anchovies.sdk import ColType, ConfigError, CorruptDatastore, FatalError, Load, LoadFile, RetryableError, RowError
from anchovies.sdk.rows import type_of

if TYPE_CHECKING:
    import pyarrow as pa

TYPES = {
    "bool": "BOOLEAN", "int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "bytes": "BLOB", "date": "DATE", "time": "TIME",
    "datetime": "TIMESTAMP", "datetime_tz": "TIMESTAMP WITH TIME ZONE", "uuid": "UUID", "json": "JSON",
}  # fmt: skip
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
MAX_DIGITS = 38
ROW = "file_row_number"


class DuckDatabase(Database):
    """A DuckDB file, open in one process at a time."""

    kind = "duckdb"
    name_limit = 255
    reserved: ClassVar[frozenset[str]] = frozenset({"rowid"})
    addr = "rowid"
    addr_type = "bigint"
    key_index = ""  # it joins by hashing; an index would only make every load slower

    def __init__(self, path: str) -> None:
        self.path = path
        if not Path(path).parent.is_dir():
            raise ConfigError(f"the folder of the DuckDB file {path} does not exist", hint="make it, or mend the URL")
        try:
            import duckdb
        except ImportError:
            raise ConfigError("DuckDB is not installed", hint="pip install 'anchovies[duckdb]'") from None
        with _translated(path):
            self._con: Any = duckdb.connect(path)

    def run(self, sql: str, *params: object) -> int:
        with _translated(self.path):
            found = self._con.execute(sql, list(params)).fetchone()
        return int(found[0]) if found and isinstance(found[0], int) else 0

    def rows(self, sql: str, *params: object) -> list[Row]:
        with _translated(self.path):
            found: list[Row] = self._con.execute(sql, list(params)).fetchall()
        return found

    def begin(self) -> None:
        self.run("BEGIN TRANSACTION")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        import duckdb

        try:
            self._con.execute("ROLLBACK")
        except duckdb.TransactionException:
            pass  # it had ended by itself
        except duckdb.Error:
            self.broken = True

    def close(self) -> None:
        self._con.close()

    def attempt(self, sql: str) -> bool:
        self.run(sql)
        return True

    def fill(self, into: str, columns: Sequence[tuple[str, Col]], load: Load, *, seq: bool, unit: bool) -> int:
        names = ", ".join([name for name, _ in columns] + ['"_seq"'] * seq + ['"_unit"'] * unit)
        checks, total = Checks(load.target.tbl), 0
        rest: list[LoadFile] = []
        for file in load.files:
            path = file.parquet_path()
            select = None if path is None else self._from_parquet(path, columns, file)
            if select is None:
                rest.append(file)
                continue
            extra = f", {file.seq} + {ROW}" * seq + self._unit_of(file) * unit
            done = self.run(f"INSERT INTO {into} ({names}) SELECT {select[0]}{extra} FROM {select[1]}")  # noqa: S608
            if done != file.rows:
                raise CorruptDatastore(f"tbl {load.target.tbl.name}: a file has {done} rows instead of {file.rows}")
            total += done
        if rest:
            total += self._arrow(into, names, columns, rest, checks, (seq, unit))
        self._check(into, columns, checks, seq)
        return total

    def _from_parquet(self, path: str, columns: Sequence[tuple[str, Col]], file: LoadFile) -> tuple[str, str] | None:
        """(select list, from) where the file's own columns are what the target's are, or are absent; None: take the Arrow way."""
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        if ROW in schema.names:
            return None
        parts = []
        for _, col in columns:
            if col.source not in schema.names:
                parts.append(f"CAST(NULL AS {col.sql})")
            elif _is_exactly(type_of(schema.field(col.source)), col):
                parts.append(f"CAST({quote(col.source)} AS {col.sql})")
            else:
                return None
        place = path.replace("'", "''")
        return ", ".join(parts), f"read_parquet('{place}', {ROW} = true, hive_partitioning = false)"

    def _unit_of(self, file: LoadFile) -> str:
        if len(file.units) == 1:
            return f", {file.units[0][1]}"
        pairs = ", ".join(f"({start}, {unit})" for start, unit in file.units)
        return f", (SELECT max(u) FROM (VALUES {pairs}) units(o, u) WHERE o <= {ROW})"  # noqa: S608

    def _arrow(
        self, into: str, names: str, columns: Sequence[tuple[str, Col]], files: list[LoadFile], checks: Checks,
        extra: tuple[bool, bool],
    ) -> int:  # fmt: skip
        import pyarrow as pa

        schema, total = None, 0
        for file, offset, batch in checked(files, checks):
            arrays = [_plain(batch.column(col.source), col) for _, col in columns]
            if extra[0]:
                start = file.seq + offset
                arrays.append(pa.array(range(start, start + batch.num_rows), pa.int64()))
            if extra[1]:
                arrays.append(pa.array(unit_ids(file, offset, batch.num_rows), pa.int64()))
            labels = [f"x{i}" for i in range(len(arrays))]
            schema = pa.Table.from_arrays(arrays, labels)
            casts = [f"CAST(x{i} AS {col.sql})" for i, (_, col) in enumerate(columns)] + labels[len(columns) :]
            with _translated(self.path):
                self._con.register("_anchovies_batch", schema)
                self.run(f"INSERT INTO {into} ({names}) SELECT {', '.join(casts)} FROM _anchovies_batch")  # noqa: S608
                self._con.unregister("_anchovies_batch")
            total += batch.num_rows
        return total

    def _check(self, into: str, columns: Sequence[tuple[str, Col]], checks: Checks, seq: bool) -> None:
        """The checks of `Checks` for rows that no Python code saw."""
        keys = {name: col for name, col in columns if col.source in checks.keys} if seq else {}
        for name, col in keys.items():
            others = {c.source: n for n, c in keys.items() if n != name}
            picks = ", ".join(['"_seq"', *others.values()])
            for row in self.rows(f'SELECT {picks} FROM {into} WHERE {name} IS NULL ORDER BY "_seq" LIMIT 1'):  # noqa: S608
                checks.null_key(col.source, int(str(row[0])), dict(zip(others, row[1:], strict=True)))
        for name, col in columns:
            if col.source in checks.suspects:
                pattern = checks.pattern.replace("'", "''")
                some = f"FROM {into} WHERE {name} IS NOT NULL"
                if not self.rows(f"SELECT 1 {some} AND NOT regexp_full_match({name}, '{pattern}') LIMIT 1"):
                    checks.refuse_numbers(col.source, [str(r[0]) for r in self.rows(f"SELECT DISTINCT {name} {some} LIMIT 2")])

    def describe(self, schema: str, table: str) -> dict[str, str] | None:
        found = self.rows(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower($1) AND lower(table_name) = lower($2) ORDER BY column_index",
            self.short(schema),
            self.short(table),
        )
        return {str(n): str(t) for n, t in found} or None

    def view(self, schema: str, name: str) -> str | None:
        found = self.rows(
            "SELECT q FROM (SELECT database_name d, schema_name s, view_name n, sql q FROM duckdb_views() "
            "UNION ALL SELECT database_name, schema_name, table_name, '' FROM duckdb_tables()) "
            "WHERE d = current_database() AND lower(s) = lower($1) AND lower(n) = lower($2)",
            self.short(schema),
            self.short(name),
        )
        return str(found[0][0]) if found else None

    def sql_type(self, type: ColType) -> str:
        if type.kind == "decimal":
            return f"DECIMAL({type.precision},{type.scale})" if type.precision <= MAX_DIGITS else "VARCHAR"
        if type.item is not None:
            return f"{'VARCHAR' if type.item.kind == 'null' else self.sql_type(type.item)}[]"
        return TYPES[type.kind]

    def widening(self, have: str, want: str, column: str) -> str | None:
        a, b = _DECIMAL.fullmatch(have), _DECIMAL.fullmatch(want)
        if b and (have == "BIGINT" or a):
            digits, scale = (int(a[1]) - int(a[2]), int(a[2])) if a else (19, 0)
            return f"CAST({column} AS {want})" if int(b[1]) - int(b[2]) >= digits and int(b[2]) >= scale else None
        if (have, want) == ("BIGINT", "DOUBLE") or (
            have.endswith("[]") and want.endswith("[]") and self.widening(have[:-2], want[:-2], column)
        ):
            return f"CAST({column} AS {want})"
        if want == "JSON" and have != "BLOB":
            return f"to_json({column})"
        if want != "VARCHAR" or have == "BLOB" or have.endswith("[]"):
            return None
        text = f"CAST({column} AS VARCHAR)"
        return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END" if a else text

    def ordered(self, expr: str, col: Col) -> str:
        if col.type.kind == "decimal" and col.sql == "VARCHAR":
            raise ConfigError(
                f"column {col.source!r} has more than {MAX_DIGITS} digits, which DuckDB keeps as text: it cannot be in sort_by",
                hint=f"say `columns: {{{col.source}: decimal(38,s)}}` if its values fit",
                column=col.source,
            )
        return expr


def _plain(column: pa.Array, col: Col) -> pa.Array:
    return as_text(column, col.type) if col.type.kind == "decimal" and col.sql == "VARCHAR" else column


def _is_exactly(have: ColType, col: Col) -> bool:
    """Whether DuckDB may read a Parquet column of type `have` into the target's column without anybody between."""
    return have == col.type and have.item is None and have.kind != "null" and have.precision <= MAX_DIGITS


@contextmanager
def _translated(path: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.TransactionException as e:
        raise RetryableError(f"the DuckDB file {path}: another transaction was faster: {e}") from e
    except duckdb.IOException as e:
        text = str(e)
        if "lock" in text.lower():
            pid = re.search(r"PID (\d+)", text)
            who = f" (process {pid[1]})" if pid else ""
            raise RetryableError(
                f"the DuckDB file {path} is open in another process{who}, and DuckDB serves one at a time",
                hint="close it there; -t 15m would have this run wait for up to 15 minutes",
                patient=True,
            ) from e
        if "not a valid duckdb" in text.lower():
            raise ConfigError(f"{path} is not a DuckDB database", hint="mend the URL, or take the file away") from e
        raise ConfigError(f"the DuckDB file {path} cannot be opened or written: {text.splitlines()[0]}") from e
    except duckdb.ConstraintException as e:
        if str(e).startswith(("Constraint Error: NOT NULL", "Constraint Error: CHECK")):
            raise RowError(f"the DuckDB file {path} refuses a row: {str(e).splitlines()[0]}") from e
        raise RetryableError(f"the DuckDB file {path}: another transaction was faster: {e}") from e
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as e:
        raise RowError(f"the DuckDB file {path} refuses a value: {str(e).splitlines()[0]}") from e
    except duckdb.Error as e:
        raise FatalError(f"the DuckDB file {path}: {str(e).splitlines()[0]}") from e
