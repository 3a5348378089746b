"""PostgreSQL: psycopg, binary COPY encoded from Arrow by pgpq in a thread of its own; CSV where a type has no binary form."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from anchovies.plugins.sql.database import TOO_LONG, Col, Database, Row
from anchovies.plugins.sql.rows import Checks, as_text, checked, unit_ids
from anchovies.sdk import ColType, ConfigError, FatalError, Load, RetryableError, RowError

TYPES = {
    "bool": "boolean", "int": "bigint", "float": "double precision", "str": "text", "bytes": "bytea", "date": "date",
    "time": "time without time zone", "datetime": "timestamp without time zone", "datetime_tz": "timestamp with time zone",
    "uuid": "uuid", "json": "json", "list": "json", "decimal": "numeric",
}  # fmt: skip
NO_BINARY = ("uuid", "list")
BATCH_ROWS = 16_384
SESSION = {
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "15min",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
    "application_name": "anchovies",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "temp_buffers": "64MB",
}
LOCAL = ("", "localhost", "127.0.0.1", "::1")


class PostgresDatabase(Database):
    """One connection to a PostgreSQL server; a thread has its own."""

    kind = "postgresql"
    name_limit = 63
    reserved: ClassVar[frozenset[str]] = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
    addr = "ctid"
    addr_type = "tid"
    transient = " ON COMMIT DROP"
    view_blocks = True

    def __init__(self, url: str, connection: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise ConfigError("the driver of PostgreSQL is not installed", hint="pip install 'anchovies[postgres]'") from None
        dsn, parts = "postgresql:" + url.split(":", 1)[1], urlsplit(url)
        query = parse_qs(parts.query)
        host = parts.hostname or (query.get("host") or [""])[0]
        options: dict[str, Any] = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        if "sslmode" not in query and host not in LOCAL and not host.startswith("/"):
            options |= {"sslmode": "verify-full", **({} if "sslrootcert" in query else {"sslrootcert": "system"})}
        self.where = f"the PostgreSQL server at {host or 'the local socket'}"
        try:
            self._con: Any = psycopg.connect(
                dsn, autocommit=True, cursor_factory=psycopg.RawCursor, prepare_threshold=None,
                **{k: v for k, v in options.items() if k not in query},
            )  # fmt: skip
            for name, value in SESSION.items():
                self._con.execute("SELECT set_config($1, $2, false)", [name, value])
        except psycopg.ProgrammingError:
            raise ConfigError(f"connection {connection!r}: its URL is not one that PostgreSQL understands") from None
        except psycopg.OperationalError as e:
            raise _refused(e, self.where, connection) from None

    def limit(self, *, lock: float | None, statement: float | None) -> None:
        for name, value in (("lock_timeout", lock), ("statement_timeout", statement)):
            if value is not None:
                self.rows("SELECT set_config($1, $2, false)", name, f"{round(value * 1000)}ms")

    def run(self, sql: str, *params: object) -> int:
        with self._translated():
            return int(self._con.execute(sql, params or None).rowcount)

    def rows(self, sql: str, *params: object) -> list[Row]:
        with self._translated():
            found: list[Row] = self._con.execute(sql, params or None).fetchall()
        return found

    def begin(self) -> None:
        self.run("BEGIN")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        import psycopg

        try:
            self._con.execute("ROLLBACK")
        except psycopg.Error:
            self.broken = True
            self.close()

    def close(self) -> None:
        import psycopg

        try:
            self._con.close()
        except psycopg.Error:
            self.broken = True

    def attempt(self, sql: str) -> bool:
        import psycopg

        self.run("SAVEPOINT anchovies")
        try:
            with self._translated():
                self._con.execute(sql)
        except RetryableError as e:
            if not isinstance(e.__cause__, psycopg.errors.UniqueViolation):
                raise
            self.run("ROLLBACK TO SAVEPOINT anchovies")
            return False
        self.run("RELEASE SAVEPOINT anchovies")
        return True

    def fill(self, into: str, columns: Sequence[tuple[str, Col]], load: Load, *, seq: bool, unit: bool) -> int:
        names = ", ".join([name for name, _ in columns] + ['"_seq"'] * seq + ['"_unit"'] * unit)
        binary = all(c.type.kind not in NO_BINARY and c.sql == TYPES[c.type.kind] and c.type.precision <= 38 for _, c in columns)
        form = "binary" if binary else "csv"
        encoder = _Encoder(load, [c for _, c in columns], (seq, unit), binary)
        try:
            with self._translated(), self._con.cursor().copy(f"COPY {into} ({names}) FROM STDIN (FORMAT {form})") as copy:
                for block in encoder.blocks():
                    copy.write(block)
        finally:
            encoder.stop()
        encoder.checks.done()
        return encoder.total

    def describe(self, schema: str, table: str) -> dict[str, str] | None:
        found = self.rows(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 "
            "AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            self.short(schema),
            self.short(table),
        )
        return {str(n): str(t) for n, t in found} or None

    def view(self, schema: str, name: str) -> str | None:
        found = self.rows(
            "SELECT CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) ELSE '' END FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            self.short(schema),
            self.short(name),
        )
        return str(found[0][0]) if found else None

    def sql_type(self, type: ColType) -> str:
        return TYPES[type.kind]

    def widening(self, have: str, want: str, column: str) -> str | None:
        if have == "bytea":
            return None
        if have == "bigint" and want in ("numeric", "double precision"):
            return f"{column}::{want}"
        if want == "json":
            return f"to_json({column})"
        return f"{column}::text" if want == "text" else None

    def carry(self, expr: str, sql: str) -> str:
        return f"{expr}::text" if sql == "json" else expr

    def uncarry(self, expr: str, sql: str) -> str:
        return f"{expr}::json" if sql == "json" else expr

    def ordered(self, expr: str, col: Col) -> str:
        return f'{expr} COLLATE "C"' if col.sql in ("text", "json") else expr

    def lock_position(self) -> str:
        return " FOR UPDATE"

    def analyze(self, table: str) -> None:
        self.run(f"ANALYZE {table}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex) as e:
            raise RowError(f"{self.where} refuses a value: {_first(e)}{_context(e)}") from e
        except psycopg.OperationalError as e:
            if isinstance(e, psycopg.errors.QueryCanceled) and "statement timeout" in str(e):
                raise FatalError(f"{self.where}: {_first(e)}", hint=TOO_LONG) from e
            self.broken = self.broken or self._con.closed
            raise RetryableError(f"{self.where}: {_first(e)}") from e
        except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateSchema) as e:
            raise RetryableError(f"{self.where}: somebody else was faster: {_first(e)}") from e
        except (psycopg.IntegrityError, psycopg.errors.RaiseException) as e:  # constraints and triggers of somebody else's
            raise RowError(f"{self.where} refuses a row: {_first(e)}") from e
        except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.FeatureNotSupported) as e:
            raise _depends(e, self.where) from e
        except psycopg.errors.InsufficientPrivilege as e:
            raise ConfigError(f"{self.where}: {_first(e)}", hint="grant it to the user of the URL") from e
        except psycopg.InterfaceError as e:
            self.broken = True
            raise RetryableError(f"{self.where}: {_first(e)}") from e
        except psycopg.Error as e:
            raise FatalError(f"{self.where}: {_first(e)}") from e
        except ValueError as e:  # the driver's own, where COPY ends with two results: an error, and the connection lost
            if not self._con.closed:
                raise
            self.broken = True
            raise RetryableError(f"{self.where}: the connection was lost") from e


class _Encoder:
    """Encodes a load for COPY in a thread of its own, a few blocks ahead."""

    def __init__(self, load: Load, columns: Sequence[Col], extra: tuple[bool, bool], binary: bool) -> None:
        self.load, self.columns, self.extra, self.binary = load, columns, extra, binary
        self.checks, self.total = Checks(load.target.tbl), 0
        self._queue: queue.Queue[bytes | memoryview | BaseException | None] = queue.Queue(4)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="anchovies-copy", daemon=True)

    def blocks(self) -> Iterator[bytes | memoryview]:
        self._thread.start()
        while (block := self._queue.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        try:
            for block in self._binary() if self.binary else self._csv():
                self._put(block)
            self._put(None)
        except _Stop:
            pass
        except BaseException as e:  # whatever it is, the thread that waits for blocks raises it
            self._put(e)

    def _put(self, block: bytes | memoryview | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(block, timeout=0.1)
                return
            except queue.Full:
                continue
        raise _Stop

    def _batches(self) -> Iterator[Any]:
        import pyarrow as pa

        for file, offset, batch in checked(self.load.files, self.checks):
            arrays = [self._column(batch, c) for c in self.columns]
            start = file.seq + offset
            if self.extra[0]:
                arrays.append(pa.array(range(start, start + batch.num_rows), pa.int64()))
            if self.extra[1]:
                arrays.append(pa.array(unit_ids(file, offset, batch.num_rows), pa.int64()))
            whole = pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])
            self.total += batch.num_rows
            yield from (whole.slice(i, BATCH_ROWS) for i in range(0, whole.num_rows, BATCH_ROWS))

    def _column(self, batch: Any, col: Col) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = batch.column(col.source)
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\x00")).as_py():
            raise RowError(
                f"tbl {self.load.target.tbl.name}: column {col.source!r} has a text with a NUL, which PostgreSQL cannot keep",
                hint="take the NUL out at the source, or give the column the type bytes",
                column=col.source,
            )
        if self.binary:
            return column
        if pa.types.is_binary(column.type):
            return pa.array([None if v is None else "\\x" + v.hex() for v in column.to_pylist()], pa.string())
        return as_text(column, col.type)

    def _binary(self) -> Iterator[bytes]:
        try:
            from pgpq import ArrowToPostgresBinaryEncoder
        except ImportError:
            raise ConfigError("pgpq is not installed", hint="pip install 'anchovies[postgres]'") from None
        encoder = None
        for batch in self._batches():
            if encoder is None:
                encoder = ArrowToPostgresBinaryEncoder(batch.schema)
                yield encoder.write_header()
            yield encoder.write_batch(batch)
        if encoder is not None:
            yield encoder.finish()

    def _csv(self) -> Iterator[memoryview]:
        import pyarrow.csv as pc

        options = pc.WriteOptions(include_header=False, quoting_style="all_valid")
        for batch in self._batches():
            out = io.BytesIO()
            pc.write_csv(batch, out, options)
            yield out.getbuffer()


class _Stop(Exception):
    """The other side does not want any more."""


def _first(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]


def _context(e: Any) -> str:
    text = e.diag.context if e.diag else None
    return f" ({text.split(':')[0]})" if text else ""


def _depends(e: Any, where: str) -> Exception:
    """A view or rule of somebody else's reads what has to change; the server says which in its detail."""
    if "depends on" not in (detail := e.diag.message_detail or ""):
        return FatalError(f"{where}: {_first(e)}")
    return ConfigError(
        f"{where}: {_first(e)}: {detail.splitlines()[0]}", hint="drop that view, let anchovies load, and make the view again"
    )


def _refused(e: Exception, where: str, connection: str) -> Exception:
    text = _first(e)
    if any(words in text for words in ("authentication failed", "no password supplied", "does not exist", "pg_hba.conf")):
        return ConfigError(
            f"connection {connection!r}: {where} refuses us: {text}", hint="look at user, password and database in its URL"
        )
    return RetryableError(
        f"connection {connection!r}: {where} does not answer: {text}", hint="is it running? Look at host and port in its URL"
    )
