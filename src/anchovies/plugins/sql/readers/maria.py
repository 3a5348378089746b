"""MariaDB: what the server sends as text, unbuffered, and Arrow that parses it. One consistent snapshot a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import time
from typing import TYPE_CHECKING, Any, ClassVar

from anchovies.plugins.sql.arrays import batch_of, decimals, unfit
from anchovies.plugins.sql.databases.maria import ROW, MariaDatabase
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.reading import BLOCK, MARK, Pick, Reader, Relation, SourceColumn
from anchovies.sdk import ColType, FatalError, RetryableError
from anchovies.sdk.faults import fault
from anchovies.sdk.rows import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

INT, FLOAT, STR, BYTES, UINT = ColType("int"), ColType("float"), ColType("str"), ColType("bytes"), ColType("decimal", 20, 0)
WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint", "year")
TYPES = {
    "double": (FLOAT, "{}"), "float": (FLOAT, "CAST({} AS double)"), "date": (ColType("date"), "{}"),
    "time": (ColType("time"), "{}"), "datetime": (ColType("datetime"), "{}"), "timestamp": (ColType("datetime_tz"), "{}"),
    "json": (ColType("json"), "{}"), "uuid": (ColType("uuid"), "CAST({} AS char)"), "bit": (UINT, "CAST({} + 0 AS char)"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"), (STR, "{}")),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), (BYTES, "{}")),
}  # fmt: skip
"""Type → ours, and the expression that reads it. Whatever is not here is read as MariaDB's text for it."""
MEANT = {"UTC": "datetime_tz", "json": "json", "uuid": "uuid"}
"""What our own uploader says of a column in its comment."""
COLUMNS = """
SELECT c.TABLE_NAME, t.TABLE_TYPE LIKE '%VIEW%', c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.COLUMN_COMMENT, c.IS_NULLABLE,
       coalesce(s.SEQ_IN_INDEX, 0)
FROM information_schema.COLUMNS c
JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
LEFT JOIN information_schema.STATISTICS s ON s.TABLE_SCHEMA = c.TABLE_SCHEMA AND s.TABLE_NAME = c.TABLE_NAME
     AND s.COLUMN_NAME = c.COLUMN_NAME AND s.INDEX_NAME = 'PRIMARY'
WHERE c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME NOT LIKE '\\_anchovies%'
ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION
"""
HEX = frozenset("0123456789ABCDEF")


class MariaReader(MariaDatabase, Reader):
    """One connection that reads the database of its URL; tables beside one another (`--threads`) have a state each."""

    most_rows: ClassVar[int] = 16_384  # of a batch

    def __init__(self, url: str, connection: str) -> None:
        super().__init__(url, connection)
        self._con.decoders = {}  # values stay as the server says them
        self.run("SET SESSION net_write_timeout = 900")

    def begin(self, snapshot: str | None = None) -> None:
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def relations(self) -> list[Relation]:
        schema = str(self.rows("SELECT DATABASE()")[0][0])
        found: dict[tuple[str, bool], list[tuple[SourceColumn, int]]] = {}
        for table, view, name, word, words, comment, nullable, place in self.rows(COLUMNS):
            type, expr = _type_of(str(word), str(words), str(comment))
            column = SourceColumn(str(name), str(words), type, expr.format(quote(str(name))), nullable == "YES")
            found.setdefault((str(table), view == "1"), []).append((column, int(str(place))))
        seen = {t: (v, tuple(c for c, _ in cs if c.name != ROW), _key(cs)) for (t, v), cs in found.items()}
        return [Relation(schema, t, f"{quote(schema)}.{quote(t)}", cs, key, v) for t, (v, cs, key) in seen.items()]

    def stream(self, picks: Sequence[Pick], rest: str) -> Iterator[pa.RecordBatch]:
        from pymysql.cursors import SSCursor

        fault("sql.read.before", RetryableError)
        cursor, whole, size = SSCursor(self._con), False, min(256, self.most_rows)
        try:
            with self._translated():
                cursor.execute(self.query(picks, rest))
            while True:
                with self._translated():
                    rows: list[tuple[Any, ...]] = list(cursor.fetchmany(size))
                if not rows:
                    break
                fault("sql.read.block", RetryableError)
                batch = batch_of(picks, [_array(c, p) for c, p in zip(zip(*rows, strict=True), picks, strict=True)])
                size = min(max(BLOCK * len(rows) // max(batch.nbytes, 1), 16), self.most_rows)
                yield batch
            cursor.close()
            whole = True
        finally:
            if not whole:
                self.broken = True
                self._con._force_close()  # closing the cursor would read all that is left

    def mark(self, expr: str, column: SourceColumn) -> str:
        return f"HEX({expr})" if column.type.kind == "bytes" else f"CAST({expr} AS char)"

    def literal(self, mark: str, column: SourceColumn) -> str:
        kind = column.type.kind
        if kind == "bytes":
            if not set(mark) <= HEX:
                raise FatalError(f"{mark!r} is no place in a table", hint="anchovy checkpoint delete reads the table anew")
            return f"X'{mark}'"
        text = str(self._con.escape(mark))
        word = {"float": "double", "date": "date", "time": "time(6)", "datetime": "datetime(6)", "datetime_tz": "datetime(6)"}
        word |= {"int": "signed", "bool": "signed", "decimal": _decimal_word(column)}
        return f"CAST({text} AS {word[kind]})" if kind in word else text

    def settled(self, top: str, column: SourceColumn, lag: float) -> str:
        kind = column.type.kind
        if kind == "date":
            return f"(LEAST({top}, UTC_DATE() + INTERVAL 1 DAY) - INTERVAL {int(lag)} DAY)"
        if kind in ("datetime", "datetime_tz"):
            ahead = 14 if kind == "datetime" else 0
            return f"(LEAST({top}, UTC_TIMESTAMP(6) + INTERVAL {ahead} HOUR) - INTERVAL {lag!r} SECOND)"
        return f"({top} - {lag!r})" if lag else top

    def ranked(self, expr: str, column: SourceColumn) -> str:
        return f"CONVERT({expr} USING utf8mb4) COLLATE utf8mb4_nopad_bin" if column.type.kind == "str" else expr

    def as_text(self, column: SourceColumn) -> str:
        return f"CAST({column.quoted} AS char)"


def _key(columns: Sequence[tuple[SourceColumn, int]]) -> tuple[str, ...]:
    key = [c.name for c, place in sorted(columns, key=lambda pair: pair[1]) if place]
    return () if ROW in key else tuple(key)


def _type_of(word: str, words: str, comment: str) -> tuple[ColType, str]:
    """Our type of a column, and the expression that reads it. `tinyint(1)` is what MariaDB has for a bool."""
    if comment in MEANT:
        return ColType(MEANT[comment]), "{}"
    if words == "tinyint(1)":
        return ColType("bool"), "{}"
    if word in WHOLE:
        return (UINT if word == "bigint" and "unsigned" in words else INT), "{}"
    if word == "decimal":
        precision, scale = (int(n) for n in words[words.index("(") + 1 : words.index(")")].split(","))
        return ColType("decimal", precision, scale), "{}"
    return TYPES.get(word, (STR, "CAST({} AS char)"))


def _decimal_word(column: SourceColumn) -> str:
    return column.sql.split(" ")[0] if column.sql.startswith("decimal") else "decimal(20,0)"


def _array(values: Sequence[Any], pick: Pick) -> pa.Array:
    """Texts in the type of a pick. Raises RowError for one that is none of its values, such as the date 0000-00-00."""
    import pyarrow as pa

    kind = pick.type.kind
    if kind == "bytes":
        return pa.array(values, pa.binary())
    if pick.type == MARK or kind in ("str", "json", "uuid"):
        return pa.array([v.decode() if isinstance(v, bytes) else v for v in values], pa.string())
    if kind == "decimal":
        return decimals(pick.label, values, pick.type)
    if kind == "bool":
        return pa.array([None if v is None else _bool(v, pick) for v in values], pa.bool_())
    if kind == "time":
        return pa.array([None if v is None else _time(v, pick) for v in values], pa.time64("us"))
    wanted = pa.timestamp("us") if kind == "datetime_tz" else to_arrow(pick.type)
    try:
        return pa.array(values, pa.string()).cast(wanted)
    except pa.ArrowInvalid:
        worst = next(v for v in values if v is not None and not _fits(v, wanted))
        raise unfit(pick.label, worst, pick.type) from None


def _fits(value: str, wanted: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], pa.string()).cast(wanted)
    except pa.ArrowInvalid:
        return False
    return True


def _time(value: str, pick: Pick) -> time:
    """MariaDB's go from -838 to 838 hours."""
    try:
        return time.fromisoformat(value)
    except ValueError:
        raise unfit(pick.label, value, pick.type) from None


def _bool(value: str, pick: Pick) -> bool:
    if value not in ("0", "1"):
        raise unfit(pick.label, value, pick.type)
    return value == "1"
