"""Data files as JSON lines, gzipped: a header with the columns and their types, then one array a row.

What JSON has no word for is text that says it exactly: decimals, ISO dates and times, base64 of bytes, NaN and infinities. are written column by column in Arrow, without making Python objects of them.
"""

from __future__ import annotations

import gzip
import io
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from itertools import islice
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
        except (msgspec.MsgspecError, OSError, EOFError, zlib.error, Unfit, pa.ArrowException) as e:
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

    def _compress(self, text: bytes) -> None:
        self._text_bytes += len(text)
        self._done.append(self._gzip.compress(text))
        self._done_bytes += len(self._done[-1])

    @property
    def size_estimate(self) -> int:
        return max(self._done_bytes, min(int(self._text_bytes * _LIKELY), 1 << 16))

    def finish(self) -> bytes:
        return b"".join([*self._done, self._gzip.flush()])


def _encoded(batch: pa.RecordBatch, types: list[ColType]) -> bytes:
    """All lines of a batch."""
    texts = [_texts(batch.column(i), t) for i, t in enumerate(types)]
    texts[0] = pc.binary_join_element_wise("[", texts[0], "")
    texts[-1] = pc.binary_join_element_wise(texts[-1], "]\n", "")
    return characters(pc.binary_join_element_wise(*texts, ","))


def _texts(array: pa.Array, t: ColType) -> pa.Array:
    """Each value as JSON text, nulls as `null`."""
    if t.kind == "null":
        return pa.array(["null"] * len(array), pa.string())
    return pc.fill_null(_WRITE.get(t.kind, _quoted)(array, t), "null")


def _quoted(array: pa.Array, t: ColType) -> pa.Array:
    return pc.binary_join_element_wise('"', array.cast(pa.string()), '"', "")


def _plain(array: pa.Array, t: ColType) -> pa.Array:
    return array.cast(pa.string())


_ESCAPED = bytes([*range(32), ord('"'), ord("\\")])
_json = msgspec.json.Encoder()


def _text(array: pa.Array, t: ColType) -> pa.Array:
    raw = characters(array)
    if len(raw.translate(None, _ESCAPED)) == len(raw):  # nothing to escape, as in most columns
        return _quoted(array, t)
    return pa.array([None if v is None else _json.encode(v).decode() for v in array.to_pylist()], pa.string())


def _float(array: pa.Array, t: ColType) -> pa.Array:
    text = array.cast(pa.string())
    zero = pc.equal(text, "-0")
    if pc.any(zero).as_py():
        text = pc.if_else(zero, "-0.0", text)  # a reader would take -0 for an int, which has no sign of its own
    if pc.all(pc.is_finite(array), min_count=0).as_py():
        return text
    return pc.if_else(pc.is_finite(array), text, pc.binary_join_element_wise('"', text, '"', ""))


def _bytes(array: pa.Array, t: ColType) -> pa.Array:
    return pa.array([None if v is None else f'"{b64encode(v).decode()}"' for v in array.to_pylist()], pa.string())


_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # 0001-01-01 to 9999-12-31, in microseconds from 1970


def _moment(array: pa.Array, t: ColType) -> pa.Array:
    """ISO text; days and microseconds from 1970 where a year has not four digits."""
    numbers = array.cast(pa.int32()).cast(pa.int64()) if t.kind == "date" else array.cast(pa.int64())
    low, high = (y // 86_400_000_000 for y in _YEARS) if t.kind == "date" else _YEARS
    usual = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    if pc.all(usual, min_count=0).as_py():
        return _quoted(array, t)
    return pc.if_else(usual, _quoted(array, t), numbers.cast(pa.string()))


def _list(array: pa.Array, t: ColType) -> pa.Array:
    assert t.item is not None
    items = _texts(array.values, t.item)
    validity, offsets = array.buffers()[:2]
    lists = pa.Array.from_buffers(pa.list_(pa.string()), len(array), [validity, offsets], array.null_count, array.offset, [items])
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


_WRITE: dict[str, Callable[[pa.Array, ColType], pa.Array]] = {
    "bool": _plain, "int": _plain, "float": _float, "str": _text, "json": _text, "bytes": _bytes, "list": _list,
    "date": _moment, "datetime": _moment, "datetime_tz": _moment,
}  # fmt: skip
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
