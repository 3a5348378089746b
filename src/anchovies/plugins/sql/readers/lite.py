"""SQLite: the values that lie there, each held against what its column says. One read transaction for all tables."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote as url_quote

from anchovies.plugins.sql.arrays import batch_of, decimals, unfit
from anchovies.plugins.sql.databases.lite import BUSY_MS, _translated
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.reading import BLOCK, MARK, NUMBER, UNKNOWN, Pick, Reader, Relation, SourceColumn, quoted_text
from anchovies.sdk import ColType, ConfigError, FatalError, RetryableError
from anchovies.sdk.faults import fault
from anchovies.sdk.rows import rows_to_batch, to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

HOME = "main"
DATES = ("date", "time", "datetime", "datetime_tz")
_TOO_FINE = re.compile(r"[.,]\d{7}")
SAMPLE = 1000  # rows that are looked at for what a column of dates holds
RELATIONS = """
SELECT name, type = 'view' FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual')
AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_anchovies%' ESCAPE '\\' ORDER BY name
"""


class LiteReader(Reader):
    """A SQLite file, opened for reading. Tables beside one another share its one transaction, a few rows at a time."""

    most_rows: ClassVar[int] = 16_384  # of a batch

    def __init__(self, path: str) -> None:
        self.path = path
        if not Path(path).is_file():
            raise ConfigError(f"there is no SQLite file {path}", hint="mend the URL; what is read has to be there")
        self._lock = threading.RLock()
        with _translated(path):
            uri = f"file:{url_quote(str(Path(path).absolute()))}?mode=ro"
            self._con = sqlite3.connect(
                uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )  # fmt: skip
            self._con.create_function("anchovies_settled", 3, _settled, deterministic=True)

    def begin(self, snapshot: str | None = None) -> None:
        with self._lock, _translated(self.path):
            self._con.execute("BEGIN")
            self._con.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it sees one state

    def relations(self) -> list[Relation]:
        with self._lock, _translated(self.path):
            return [self._relation(name, bool(view)) for name, view in self._con.execute(RELATIONS).fetchall()]

    def _relation(self, name: str, view: bool) -> Relation:
        try:
            info = self._con.execute('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1', [name])
            found = info.fetchall()
        except sqlite3.OperationalError:  # a view of a table that is gone: it shows when somebody reads it
            return Relation(HOME, name, quote(name), (), (), view)
        keys = sorted((pk, column, words, required) for column, words, required, pk in found if pk)
        alone = len(keys) == 1 and keys[0][2].upper() == "INTEGER"
        sure = alone or all(required for *_, required in keys)  # SQLite lets nulls into keys that do not forbid them
        columns = tuple(self._column(name, c, words, bool(required)) for c, words, required, _ in found)
        return Relation(HOME, name, quote(name), columns, tuple(c for _, c, _, _ in keys) if sure else (), view)

    def _column(self, table: str, name: str, words: str, required: bool) -> SourceColumn:
        type = _type_of(words.upper())
        if type.kind in DATES:
            type = self._looked_at(table, name, type)
        return SourceColumn(name, words, type, quote(name), not required)

    def _looked_at(self, table: str, name: str, type: ColType) -> ColType:
        """What a column of dates holds, as its first value says: SQLite keeps texts and numbers there."""
        some = f"SELECT {quote(name)} AS v FROM {quote(table)} LIMIT {SAMPLE}"  # noqa: S608
        found = self._con.execute(f"SELECT v FROM ({some}) WHERE v IS NOT NULL LIMIT 1").fetchone()  # noqa: S608
        if found is None:
            return type
        value = found[0]
        if not isinstance(value, str):
            return ColType({int: "int", float: "float"}.get(value.__class__, "bytes"))
        for kind in (type.kind, "datetime", "datetime_tz"):
            if _READ[kind](value) is not None:
                return ColType(kind)
        return ColType("str")

    def stream(self, picks: Sequence[Pick], rest: str) -> Iterator[pa.RecordBatch]:
        fault("sql.read.before", RetryableError)
        query = self.query(picks, rest)
        with self._lock, _translated(self.path):
            cursor = self._con.execute(query)
        size = min(256, self.most_rows)
        try:
            while True:
                with self._lock, _translated(self.path):
                    rows = cursor.fetchmany(size)
                if not rows:
                    return
                fault("sql.read.block", RetryableError)
                batch = batch_of(picks, [_array(c, p) for c, p in zip(zip(*rows, strict=True), picks, strict=True)])
                size = min(max(BLOCK * len(rows) // max(batch.nbytes, 1), 16), self.most_rows)
                yield batch
        finally:
            with self._lock:
                cursor.close()

    def close(self) -> None:
        with self._lock:
            self._con.close()

    def mark(self, expr: str, column: SourceColumn) -> str:
        return expr

    def literal(self, mark: str, column: SourceColumn) -> str:
        value = _unmarked(mark)
        if isinstance(value, bytes):
            return f"X'{value.hex()}'"
        if isinstance(value, str):
            return f"CAST(X'{value.encode().hex()}' AS TEXT)" if "\x00" in value else quoted_text(value)
        return {"inf": "9e999", "-inf": "-9e999"}.get(repr(value), repr(value))

    def settled(self, top: str, column: SourceColumn, lag: float) -> str:
        if column.type.kind in DATES:
            return f"anchovies_settled({top}, {lag!r}, strftime('%s', 'now'))"
        return f"({top} - {lag!r})" if lag else top

    def as_text(self, column: SourceColumn) -> str:
        return f"CAST({column.quoted} AS TEXT)"

    def ranked(self, expr: str, column: SourceColumn) -> str:
        return f"{expr} COLLATE BINARY"


def _type_of(words: str) -> ColType:
    """Ours of a declared type, by SQLite's own rules and the words that people use; without a word, the values say."""
    head = words.partition("(")[0].strip().removesuffix("_TEXT")
    exact = {
        "BOOL": "bool", "BOOLEAN": "bool", "DATE": "date", "TIME": "time", "DATETIME": "datetime", "TIMESTAMP": "datetime",
        "TIMESTAMPTZ": "datetime_tz", "DATETIMETZ": "datetime_tz", "TIMESTAMP WITH TIME ZONE": "datetime_tz", "UUID": "uuid",
        "JSON": "json",
    }.get(head)  # fmt: skip
    if exact:
        return ColType(exact)
    if head in ("DECIMAL", "NUMERIC", "NUMBER", "DEC"):
        bounds = words[words.find("(") + 1 : -1].split(",") if words.endswith(")") else []
        if bounds and all(b.strip().isdigit() for b in bounds):
            precision, scale = int(bounds[0]), int(bounds[1]) if len(bounds) > 1 else 0
            if 1 <= precision <= 76 and scale <= precision:
                return ColType("decimal", precision, scale)
        return NUMBER
    for kind, parts in (
        ("int", ("INT",)),
        ("str", ("CHAR", "CLOB", "TEXT")),
        ("bytes", ("BLOB",)),
        ("float", ("REAL", "FLOA", "DOUB")),
    ):
        if any(part in words for part in parts):
            return ColType(kind)
    return UNKNOWN


def _array(values: Sequence[object], pick: Pick) -> pa.Array:
    import pyarrow as pa

    kind = pick.type.kind
    if pick.type == MARK:
        return pa.array([_marked(v) for v in values], pa.string())
    if pick.type == UNKNOWN:
        return _by_value(values, pick.label)
    if kind in ("decimal", "number"):
        return decimals(pick.label, values, pick.type)
    return pa.array([None if v is None else _read(v, pick) for v in values], to_arrow(pick.type))


def _by_value(values: Sequence[object], label: str) -> pa.Array:
    """A column that no type is known of, as rows of any origin are taken."""
    rows = [{label: v} for v in values]
    return rows_to_batch(rows).column(0)


def _read(value: object, pick: Pick) -> object:
    found = _READ[pick.type.kind](value)
    if found is None:
        raise unfit(pick.label, value, pick.type)
    return found


def _exactly(kind: type) -> Callable[[Any], Any]:
    return lambda v: v if isinstance(v, kind) else None


def _float(value: Any) -> float | None:
    if isinstance(value, int):
        return float(value) if int(float(value)) == value else None
    if isinstance(value, float):
        return value
    return float("nan") if value == "NaN" else None  # as our uploader writes it


def _parser(parse: Callable[[str], Any], good: Callable[[Any], bool] = lambda _: True) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            found = parse(value)  # which would cut off more than microseconds, so such a text is none of ours
        except (ValueError, TypeError):
            return None
        return found if good(found) and not _TOO_FINE.search(value) else None

    return read


_READ: dict[str, Callable[[Any], Any]] = {
    "int": _exactly(int), "str": _exactly(str), "bytes": _exactly(bytes), "uuid": _exactly(str), "json": _exactly(str),
    "float": _float,
    "bool": lambda v: {0: False, 1: True, "false": False, "true": True, "f": False, "t": True}.get(v),
    "date": _parser(date.fromisoformat),
    "time": _parser(time.fromisoformat, lambda t: t.tzinfo is None),
    "datetime": _parser(datetime.fromisoformat, lambda d: d.tzinfo is None),
    "datetime_tz": _parser(datetime.fromisoformat, lambda d: d.tzinfo is not None),
}  # fmt: skip


def _marked(value: object) -> str | None:
    if value is None:
        return None
    return json.dumps({"hex": value.hex()} if isinstance(value, bytes) else value)


def _unmarked(mark: str) -> object:
    """Raises FatalError for what is none: somebody has edited the checkpoint."""
    try:
        value = json.loads(mark)
        value = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
    except (ValueError, KeyError, TypeError):
        raise FatalError(f"{mark!r} is no place in a table", hint="anchovy checkpoint delete reads the table anew") from None
    if isinstance(value, bool) or not isinstance(value, int | float | str | bytes):
        raise FatalError(f"{mark!r} is no place in a table", hint="anchovy checkpoint delete reads the table anew")
    return value


def _settled(top: str | float, lag: float, now: str) -> str | float:
    """`top`, or now where that is earlier, less `lag`: in the same spelling, because SQLite compares texts."""
    if not isinstance(top, str):
        return top - lag
    if len(top) == 10:
        day = min(date.fromisoformat(top), datetime.fromtimestamp(int(now), UTC).date() + timedelta(days=1))
        return (day - timedelta(days=int(lag))).isoformat()
    moment = datetime.fromisoformat(top)
    limit = datetime.fromtimestamp(int(now), UTC)
    limit = (limit + timedelta(hours=14)).replace(tzinfo=None) if moment.tzinfo is None else limit.astimezone(moment.tzinfo)
    found = min(moment, limit) - timedelta(seconds=lag)
    text = found.isoformat(top[10], "microseconds" if "." in top else "seconds")
    return text.replace("+00:00", "Z") if top.endswith("Z") else text
