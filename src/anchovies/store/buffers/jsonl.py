"""Data files as JSON lines, gzipped: a header with the columns and their types, then one array a row.

What JSON has no word for is text that says it exactly: decimals, ISO dates and times, base64 of bytes, NaN and infinities.
"""

from __future__ import annotations

import gzip
import io
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from itertools import groupby, islice
from math import isfinite
from operator import itemgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.arrow import schema_of, to_arrow, type_of
from anchovies.core.casts import Unfit, cast, characters
from anchovies.core.types import STR, ColType, parse_type

FORMAT = 0
_READ_ROWS = 20_000
_LIKELY = 0.2  # bytes in the file for each byte of text


class Header(msgspec.Struct, frozen=True):
    """The first line. `columns`: pairs of name and type."""

    anchovies: int
    columns: list[tuple[str, str]]


class JsonLinesBuffer:
    """For people and for tools that know text only."""

    name = "jsonl"
    ext = "jsonl.gz"

    def writer(self, schema: pa.Schema) -> JsonLinesWriter:
        return JsonLinesWriter(schema)

    def read(self, data: bytes) -> Iterator[pa.RecordBatch]:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as lines:
                header = msgspec.json.decode(lines.readline(), type=Header)
                types = {name: parse_type(text) for name, text in header.columns}
                while chunk := b"".join(islice(lines, _READ_ROWS)):
                    yield _decoded(chunk, types)
        except (ValueError, TypeError, OSError, EOFError, zlib.error, Unfit, pa.ArrowException) as e:
            raise ValueError(f"not a JSON lines file of ours: {e}") from e


class JsonLinesWriter:
    def __init__(self, schema: pa.Schema) -> None:
        self._types = {f.name: type_of(f) for f in schema}
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, 31)  # a gzip header without a time: the same rows give the same bytes
        self._done: list[bytes] = []
        self._done_bytes = self._text_bytes = 0
        self.rows = 0
        header = Header(FORMAT, [(n, str(t)) for n, t in self._types.items()])
        self._compress(msgspec.json.encode(header) + b"\n")

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._compress(_encoded(batch, list(self._types.values())))
            self.rows += batch.num_rows

    def _compress(self, text: bytes | memoryview) -> None:
        self._text_bytes += len(text)
        self._done.append(self._gzip.compress(text))
        self._done_bytes += len(self._done[-1])

    @property
    def size_estimate(self) -> int:
        return max(self._done_bytes, min(int(self._text_bytes * _LIKELY), 1 << 16))

    def finish(self) -> bytes:
        return b"".join([*self._done, self._gzip.flush()])


_json = msgspec.json.Encoder()


def _encoded(batch: pa.RecordBatch, types: list[ColType]) -> memoryview:
    """All lines of a batch, put together by Arrow: without Python objects, and without the interpreter's lock.

    Texts side by side are quoted by the join: each step more takes a copy, and a turn of the lock.
    """
    words = [_words(batch.column(i), t) for i, t in enumerate(types)]
    if not words:
        return memoryview(b"[]\n" * len(batch))
    runs = [(bare, [text for _, text in run]) for bare, run in groupby(words, key=itemgetter(0))]
    if len(runs) == 1 and runs[0][0]:
        return memoryview(characters(_between('["', _joined(runs[0][1], '","'), '"]\n')))
    columns: list[pa.Array] = []
    for bare, texts in runs:
        columns += [_between('"', _joined(texts, '","'), '"')] if bare else texts
    return memoryview(characters(_between("[", _joined(columns, ","), "]\n")))


def _joined(texts: list[pa.Array], by: str) -> pa.Array:
    return pc.binary_join_element_wise(*texts, by, null_handling="replace", null_replacement="null")


def _between(before: str, texts: pa.Array, after: str) -> pa.Array:
    """Every text between two others (with scalars in a join this takes ten times as long)."""
    return pc.binary_replace_slice(pc.binary_replace_slice(texts, _END, _END, after), 0, 0, before)


_END = 1 << 40
_AS_TEXT = ("decimal", "time", "date", "datetime", "datetime_tz", "uuid")


def _words(array: pa.Array, t: ColType) -> tuple[bool, pa.Array]:
    """Each value as JSON text, null as null. True: as the text between its quotes, which are still to come; none is null."""
    if t.kind in ("int", "bool"):
        return False, array.cast(pa.string())
    text = array
    if t.kind in _AS_TEXT and not (t.kind.startswith("date") and _far(array, t)):
        text = array.cast(pa.string())
    elif t.kind not in ("str", "json"):
        return False, _one_by_one(_plain(array, t))
    if _has_escapes(characters(text)):
        return False, _one_by_one(text.to_pylist())
    return (True, text) if not text.null_count else (False, _between('"', text, '"'))


def _has_escapes(data: bytes) -> bool:
    """Whether JSON writes some character in another way: quotes, backslashes, control characters."""
    lowest = pc.min(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)]))
    return b'"' in data or b"\\" in data or (lowest.is_valid and lowest.as_py() < 32)


def _one_by_one(values: list[Any]) -> pa.Array:
    return pa.array([None if v is None else _json.encode(v).decode() for v in values], pa.string())


def _plain(array: pa.Array, t: ColType) -> list[Any]:
    """Each value as what JSON has a word for."""
    if t.kind in ("decimal", "time"):
        array = array.cast(pa.string())
    elif t.kind in ("date", "datetime", "datetime_tz"):
        return _moments(array, t)
    values: list[Any] = array.to_pylist() if t.item is None else _lists_of(array, t.item)
    if t.kind == "float" and not pc.all(pc.is_finite(array), min_count=0).as_py():
        return [v if v is None or isfinite(v) else str(v) for v in values]
    if t.kind == "bytes":
        return [None if v is None else b64encode(v).decode() for v in values]
    return values


def _lists_of(array: pa.Array, item: ColType) -> list[Any]:
    items = _plain(array.values, item)
    ends = array.offsets.to_pylist()
    return [items[a:b] if there else None for a, b, there in zip(ends, ends[1:], array.is_valid().to_pylist(), strict=False)]


_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # 0001-01-01 to 9999-12-31, in microseconds from 1970


def _moments(array: pa.Array, t: ColType) -> list[Any]:
    """ISO text; days and microseconds from 1970 where a year has not four digits."""
    texts: list[Any] = array.cast(pa.string()).to_pylist()
    if not _far(array, t):
        return texts
    numbers, low, high = _since_1970(array, t)
    return [n if n is not None and not low <= n <= high else v for v, n in zip(texts, numbers.to_pylist(), strict=True)]


def _since_1970(array: pa.Array, t: ColType) -> tuple[pa.Array, int, int]:
    """Days or microseconds, and between which of them a year has four digits."""
    low, high = _YEARS
    if t.kind == "date":
        return array.cast(pa.int32()).cast(pa.int64()), low // 86_400_000_000, high // 86_400_000_000
    return array.cast(pa.int64()), low, high


def _far(array: pa.Array, t: ColType) -> bool:
    """Whether some year has not four digits."""
    numbers, low, high = _since_1970(array, t)
    ends = pc.min_max(numbers).as_py()
    return ends["min"] is not None and not (low <= ends["min"] and ends["max"] <= high)


_lines = msgspec.json.Decoder(list[Any])


def _decoded(chunk: bytes, types: dict[str, ColType]) -> pa.RecordBatch:
    rows = _lines.decode_lines(chunk)
    if any(len(row) != len(types) for row in rows):
        raise ValueError("a line has too few or too many values")
    columns = zip(*rows, strict=True)
    arrays = [_array(list(values), t) for values, t in zip(columns, types.values(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(types))


def _array(values: list[Any], t: ColType) -> pa.Array:
    storage = to_arrow(t)
    if t.kind == "float":
        values = [v if v is None else float(v) for v in values]
    if t.kind == "bytes":
        values = [None if v is None else b64decode(v, validate=True) for v in values]
    if t.item is not None:
        return _lists(values, t)
    if t.kind == "int" and not {*map(type, values)} <= {int, type(None)}:
        raise ValueError("an int column holds something else")  # Arrow would cut 1.5 to 1
    if t.kind in ("null", "bool", "int", "float", "str", "json", "uuid", "bytes"):
        return pa.array(values, storage)
    return _parsed(values, t, storage)


def _parsed(values: list[Any], t: ColType, storage: pa.DataType) -> pa.Array:
    """Texts of decimals, dates and times; numbers are days or microseconds."""
    texts = pa.array([v if isinstance(v, str) else None for v in values], pa.string())
    parsed = cast(texts, STR, t, storage)
    if not any(isinstance(v, int) for v in values):
        return parsed
    numbers = pa.array([v if isinstance(v, int) else None for v in values], pa.int32() if t.kind == "date" else pa.int64())
    return pc.coalesce(parsed, numbers.cast(storage))


def _lists(values: list[Any], t: ColType) -> pa.Array:
    assert t.item is not None
    items = _array([item for v in values if v is not None for item in v], t.item)
    ends = [0]
    for v in values:
        ends.append(ends[-1] + (0 if v is None else len(v)))
    made = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, mask=pa.array([v is None for v in values], pa.bool_()))
    return pa.Array.from_buffers(to_arrow(t), len(made), made.buffers()[:2], made.null_count, 0, [items])
