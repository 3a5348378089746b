"""MariaDB: pymysql, `LOAD DATA LOCAL` fed from memory; DDL commits by itself here, so it comes before the transaction."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from anchovies.plugins.sql.database import TOO_LONG, Col, Database, Row
from anchovies.plugins.sql.databases.maria_dsn import options, refused
from anchovies.plugins.sql.databases.maria_load import blocks, expression
from anchovies.plugins.sql.databases.maria_wire import connection_class
from anchovies.plugins.sql.names import HISTORY, fit, quote
from anchovies.plugins.sql.rows import Checks
from anchovies.sdk import ColType, ConfigError, FatalError, Load, RetryableError, RowError

COLLATION = "utf8mb4_nopad_bin"
ROW = "_anchovies_row"
MAX_DIGITS, MAX_SCALE = 65, 38
TYPES = {
    "bool": "tinyint(1)", "int": "bigint(20)", "float": "double", "str": "longtext", "bytes": "longblob", "date": "date",
    "time": "time(6)", "datetime": "datetime(6)", "datetime_tz": "datetime(6) COMMENT 'UTC'", "uuid": "char(36) COMMENT 'uuid'",
    "json": "longtext COMMENT 'json'", "list": "longtext COMMENT 'json'",
}  # fmt: skip
"""MariaDB has one word for texts and JSON, and one for all moments: what a column means beside that is its comment."""
SESSION = (
    f"SET NAMES utf8mb4 COLLATE {COLLATION}",
    "SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT'",
    (
        "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 60, lock_wait_timeout = 60, net_read_timeout = 900, "
        "default_storage_engine = InnoDB, tx_isolation = 'READ-COMMITTED', join_cache_level = 8, max_statement_time = 0"
    ),
)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_UNHEARD = re.compile(r"[\x01-\x1f\x7f-\x9f\U00010000-\U0010ffff]|\A +| +\Z")
_PARAM = re.compile("\x00(\\d+)\x00")
FOR_EVER, LOCK_MOST = 100_000_000, 31_536_000  # seconds: the most that the server takes
_INDEX_CHARS = 700  # of 768 that all columns of an index may have together


class MariaDatabase(Database):
    """One connection to a MariaDB server; a thread has its own. A schema is a database of the server."""

    kind = "mariadb"
    name_limit = 64
    reserved: ClassVar[frozenset[str]] = frozenset({ROW})
    addr = ROW
    addr_type = "signed"
    no_int = "CAST(NULL AS signed)"
    key_index = "after"
    ddl_commits = True
    own_columns = (f'"{ROW}" bigint(20) NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY',)

    def __init__(self, url: str, connection: str) -> None:
        try:
            import pymysql
        except ImportError:
            raise ConfigError("the driver of MariaDB is not installed", hint="pip install 'anchovies[mysql]'") from None
        told = options(url, connection)
        self.where = f"the MariaDB server at {told.get('unix_socket') or told['host']}"
        try:
            self._con: Any = connection_class()(**told)
            for statement in SESSION:
                self._con.query(statement)
        except pymysql.MySQLError as e:
            raise refused(e, self.where, connection) from None
        self._only_maria()

    def _only_maria(self) -> None:
        found = str(self._con.get_server_info())
        if "mariadb" not in found.lower():
            self.close()
            raise ConfigError(
                f"{self.where} is not MariaDB but MySQL {found}, which cannot read a temporary table twice in one statement",
                hint="load into MariaDB (tested against 10.11)",
            )

    def limit(self, *, lock: float | None, statement: float | None) -> None:
        if lock is not None:
            wait = math.ceil(lock) or FOR_EVER
            self.run(f"SET SESSION innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {min(wait, LOCK_MOST)}")
        if statement is not None:
            self.run(f"SET SESSION max_statement_time = {statement:.6f}")

    def run(self, sql: str, *params: object) -> int:
        with self._translated():
            return int(self._con.query(self._filled(sql, params)))

    def rows(self, sql: str, *params: object) -> list[Row]:
        with self._translated(), self._con.cursor() as cursor:
            cursor.execute(self._filled(sql, params))
            return list(cursor.fetchall())

    def _filled(self, sql: str, params: tuple[object, ...]) -> str:
        """No name of ours can hold a NUL, so nothing but a place of a parameter can look like one."""
        return _PARAM.sub(lambda m: self._con.escape(params[int(m[1]) - 1]), sql) if params else sql

    def param(self, n: int) -> str:
        return f"\x00{n}\x00"

    def begin(self) -> None:
        self.run("START TRANSACTION")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        import pymysql

        try:
            self._con.query("ROLLBACK")
        except pymysql.MySQLError:
            self.broken = True
            self.close()

    def close(self) -> None:
        import pymysql

        try:
            self._con.close()
        except pymysql.MySQLError:
            self.broken = True

    def attempt(self, sql: str) -> bool:
        self.run(sql)
        return True

    # ---- rows

    def fill(self, into: str, columns: Sequence[tuple[str, Col]], load: Load, *, seq: bool, unit: bool) -> int:
        names = [name for name, _ in columns] + ['"_seq"'] * seq + ['"_unit"'] * unit
        reads = [f"@v{i}" for i in range(len(names))]
        sets = [
            f"{n} = {v if i >= len(columns) else expression(columns[i][1], v)}"
            for i, (n, v) in enumerate(zip(names, reads, strict=True))
        ]
        checks = Checks(load.target.tbl)
        counted, feed = blocks(load, [c for _, c in columns], checks, (seq, unit))
        sql = (
            f"LOAD DATA LOCAL INFILE {self._con.escape(self._con.offer(feed))} INTO TABLE {into} CHARACTER SET utf8mb4 "
            f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({', '.join(reads)}) SET {', '.join(sets)}"
        )
        with self._translated():
            try:
                done = int(self._con.query(sql))
            finally:
                self._con.withdraw()
            if self._con.warnings():
                raise self._refuses(columns, load)
        if done != counted.rows:
            raise RowError(f"{self.where} kept {done} of {counted.rows} rows", tbl=load.target.tbl.name)
        checks.done()
        return done

    def _refuses(self, columns: Sequence[tuple[str, Col]], load: Load) -> RowError:
        """What a statement only warned of is an error here. It is not told which value: it may be one that nobody may see."""
        _, code, text = self.rows("SHOW WARNINGS LIMIT 1")[0]
        place = re.search(r"for column .*?(?:`c(\d+)`|'([^']*)') at row (\d+)", str(text))
        col = columns[int(place[1])][1].source if place and place[1] else (place[2] if place else None)
        where = f" in column {col!r}, row {place[3]} of the load" if place else ""
        tbl = load.target.tbl.name
        return RowError(f"tbl {tbl}: {self.where} refuses a value{where} (warning {code})", tbl=tbl, column=col)

    # ---- structure

    def describe(self, schema: str, table: str) -> dict[str, str] | None:
        try:
            found = self.rows(f"SHOW FULL COLUMNS FROM {self.relation(schema, table)}")
        except _Absent:
            return None
        return {
            str(r[0]): f"{r[1]} COMMENT '{r[8]}'" if r[8] in ("UTC", "json", "uuid") else str(r[1]) for r in found if r[0] != ROW
        }

    def view(self, schema: str, name: str) -> str | None:
        found = self.rows(
            "SELECT coalesce(v.view_definition, '') FROM information_schema.tables t LEFT JOIN information_schema.views v "  # noqa: S608
            "ON v.table_schema = t.table_schema AND v.table_name = t.table_name "
            f"WHERE t.table_schema = {self.param(1)} AND t.table_name = {self.param(2)}",
            self.short(schema),
            self.short(name),
        )
        return str(found[0][0]) if found else None

    def short(self, name: str) -> str:
        """MariaDB has no characters beyond U+FFFF in names, and no white space at their end; its views lose control characters,
        and white space at the beginning."""
        plain = _UNHEARD.sub("_", name)
        return fit(name if plain == name else plain + "_" * self.name_limit + name, self.name_limit)

    def create_schema(self, schema: str) -> str | None:
        return f"CREATE DATABASE IF NOT EXISTS {quote(self.short(schema))} CHARACTER SET utf8mb4 COLLATE {COLLATION}"

    def create_table(self, relation: str, body: str) -> str:
        return f"CREATE TABLE IF NOT EXISTS {relation} ({body}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={COLLATION}"

    def position_ddl(self, relation: str, keys: Sequence[str]) -> str:
        columns = ", ".join(f"{name} varchar(1000) NOT NULL" for name in keys)
        hashed = f"SHA2(CONCAT_WS(CHAR(0), {', '.join(keys)}), 256)"
        return self.create_table(
            relation,
            f"{columns}, slot bigint NOT NULL, cid varchar(100) NOT NULL, consumer varchar(1000), "
            f"key_hash char(64) AS ({hashed}) PERSISTENT, UNIQUE KEY ({'key_hash'}), KEY (target_tbl(64), source_tbl(64))",
        )

    def add_column(self, relation: str, column: str, sql: str) -> str:
        return f"ALTER TABLE {relation} ADD COLUMN IF NOT EXISTS {column} {sql}"

    def index(self, name: str, relation: str, keys: Sequence[Col], history: bool) -> str | None:
        """Not unique: the current rows alone cannot be indexed. Of long texts, the beginning."""
        each = min(255, _INDEX_CHARS // len(keys))
        parts = [f"{c.quoted}({each})" if c.sql.startswith("long") else c.quoted for c in keys]
        parts += [quote(HISTORY[1])] * history
        return f"CREATE INDEX IF NOT EXISTS {quote(self.short(name))} ON {relation} ({', '.join(parts)})"

    def widen(self, relation: str, column: str, sql: str, using: str) -> list[str]:
        """A plain change, or a generated column of the new values that takes the old one's place."""
        if using == column:
            return [f"ALTER TABLE {relation} MODIFY COLUMN {column} {sql}"]
        new = quote(self.short("_anchovies_new__" + column[1:-1].replace('""', '"')))
        word = sql.partition(" COMMENT ")[0]
        return [
            f"ALTER TABLE {relation} ADD COLUMN IF NOT EXISTS {new} {word} AS ({using}) PERSISTENT AFTER {column}",
            f"ALTER TABLE {relation} DROP COLUMN {column}, CHANGE COLUMN {new} {column} {sql}",
        ]

    # ---- types and expressions

    def sql_type(self, type: ColType) -> str:
        if type.kind == "decimal":
            fits = type.precision <= MAX_DIGITS and type.scale <= MAX_SCALE
            return f"decimal({type.precision},{type.scale})" if fits else TYPES["str"]
        return TYPES["list" if type.item is not None else type.kind]

    def widening(self, have: str, want: str, column: str) -> str | None:
        a, b = _DECIMAL.fullmatch(have), _DECIMAL.fullmatch(want)
        if b and (have == TYPES["int"] or a):
            digits, scale = (int(a[1]) - int(a[2]), int(a[2])) if a else (19, 0)
            return column if int(b[1]) - int(b[2]) >= digits and int(b[2]) >= scale else None
        if (have, want) == (TYPES["int"], TYPES["float"]):
            return column
        if have == TYPES["bytes"] or want not in (TYPES["str"], TYPES["json"]):
            return None
        if have == TYPES["bool"]:
            return f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
        if want == TYPES["json"] and not (have in (TYPES["int"], TYPES["float"]) or a):
            return f"json_quote({column})"
        text = f"CAST({column} AS char)"
        return (
            f"CASE WHEN instr({text}, '.') > 0 THEN trim(TRAILING '.' FROM trim(TRAILING '0' FROM {text})) ELSE {text} END"
            if a
            else text
        )

    def same(self, a: str, b: str) -> str:
        return f"{a} <=> {b}"

    def ordered(self, expr: str, col: Col) -> str:
        if col.type.kind == "decimal" and col.sql == TYPES["str"]:
            raise ConfigError(
                f"column {col.source!r} has too many digits, so that MariaDB keeps it as text: it cannot be in sort_by",
                hint=f"say `columns: {{{col.source}: decimal(38,s)}}` if its values fit",
                column=col.source,
            )
        return expr

    def sorted(self, expr: str, descending: bool) -> str:
        return f"{expr} IS NULL, {expr} {'DESC' if descending else 'ASC'}"

    # ---- statements that are not the same everywhere

    def make_temp(self, name: str, *, columns: str = "", select: str = "", keys: Sequence[str] = ()) -> None:
        indexes = ", ".join(f"KEY ({k})" for k in keys)
        body = ", ".join(x for x in (columns, indexes) if x)
        what = f" AS {select}" if select else ""
        self.run(
            f"CREATE OR REPLACE TEMPORARY TABLE {name} ({body}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={COLLATION}{what}"
        )

    def drop_temp(self, name: str) -> None:
        self.run(f"DROP TEMPORARY TABLE IF EXISTS {name}")

    def index_temp(self, name: str, column: str) -> None:
        """It has its indexes: to make one later would end the transaction."""

    def end_rows(self, relation: str, ends: str) -> str:
        return f"UPDATE {relation} t JOIN {ends} f ON t.{self.addr} = f._addr SET t._del = f._end"  # noqa: S608

    def delete_rows(self, relation: str, ends: str) -> str:
        return f"DELETE t FROM {relation} t JOIN {ends} f ON t.{self.addr} = f._addr"

    def insert_once(self, relation: str, columns: Sequence[str], values: str) -> str:
        return f"INSERT INTO {relation} ({', '.join(columns)}) VALUES ({values}) ON DUPLICATE KEY UPDATE slot = slot"  # noqa: S608

    def lock_position(self) -> str:
        return " FOR UPDATE"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import pymysql

        try:
            yield
        except pymysql.MySQLError as e:
            code = e.args[0] if e.args and isinstance(e.args[0], int) else 0
            raise self._meaning(code, e) from e

    def _meaning(self, code: int, e: Exception) -> Exception:
        said = f"{self.where}: {e.args[1] if len(e.args) > 1 else e}"
        if code in (1146, 1049):  # no such table, no such database
            return _Absent(said)
        if code in (1205, 1213, 1020, 1412, 1050, 1060, 1061, 1091):  # locks, and what somebody else has made or dropped just now
            return RetryableError(said)
        if code in (1264, 1265, 1366, 1406, 1292, 1411, 4025):
            return RowError(f"{self.where} refuses a value: error {code}")
        if code in (1044, 1045, 1142, 1143, 1227, 1370, 3948, 4166):
            return ConfigError(said, hint=_hint(code))
        if code in (0, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 2006, 2013, 2014, 2055):
            self.broken = True
            return RetryableError(said)
        return FatalError(f"{said} (error {code})", hint=TOO_LONG if code == 1969 else None)


class _Absent(FatalError):
    """There is no such table."""


def _hint(code: int) -> str:
    if code in (3948, 4166):
        return "set local_infile=ON at the server: rows are loaded by LOAD DATA LOCAL"
    return "grant it to the user of the URL"
