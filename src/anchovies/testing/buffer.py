"""What every data buffer must do, as tests. A format is tested by a subclass that says how to make one:

class TestMyBuffer(BufferSuite):
    @pytest.fixture
    def buffer(self): ...
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from anchovies.core.arrow import schema_of
from anchovies.core.schema import batch_to_rows, rows_to_batch
from anchovies.core.types import parse_type
from anchovies.store.buffers import Buffer

#: values of every type that a careless format loses: ends of ranges, empty ones, and what JSON or CSV have no word for
VALUES: dict[str, list[Any]] = {
    "null": [None],
    "bool": [True, False],
    "int": [0, -1, 2**63 - 1, -(2**63), 2**53 + 1],
    "float": [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, 1e22, 123456789.0, math.inf, -math.inf, math.nan],
    "str": ["", " ", "a\tb\n\r\"'\\", "null", "é 漢 🐟", "\x00\x1f\x7f\u2028", "1", "x" * 100_000],
    "bytes": [b"", b"\x00\xff\n", bytes(range(256))],
    "date": [date(1, 1, 1), date(1970, 1, 1), date(2026, 2, 28), date(9999, 12, 31)],
    "time": [time(0), time(23, 59, 59, 999_999), time(0, 0, 0, 1)],
    "datetime": [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(9999, 12, 31, 23, 59, 59, 999_999)],
    "datetime(tz)": [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC)],
    "decimal(18,2)": [Decimal("0.00"), Decimal("-0.01"), Decimal("9999999999999999.99")],
    "decimal(38,38)": [Decimal("1E-38"), Decimal("-0.5")],
    "decimal(76,0)": [Decimal(10**76 - 1), Decimal(1 - 10**76), Decimal(2**63)],
    "uuid": [UUID(int=0), UUID(int=2**128 - 1)],
    "json": [{"a": [1, None, {"$b": Decimal("1.0")}]}, [], "text", 1.5, True, {"at": datetime(2026, 1, 1, tzinfo=UTC)}],
    "list[int]": [[], [1, None, 2**63 - 1]],
    "list[str]": [[""], ["a", None, '"']],
    "list[decimal(5,2)]": [[Decimal("1.50")], []],
    "list[list[datetime(tz)]]": [[[datetime(2026, 1, 1, tzinfo=UTC)], None, []], []],
    "list[json]": [[{"a": 1}, None]],
}


def same(a: pa.RecordBatch, b: pa.RecordBatch) -> bool:
    """Equal schemas with their metadata, equal values; NaN is NaN, and -0.0 is not 0.0."""
    return bool(a.schema.equals(b.schema, check_metadata=True)) and repr(a.to_pylist()) == repr(b.to_pylist())


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


class BufferSuite:
    """Subclass it, name it `Test…`, and give it a fixture `buffer`."""

    def through(self, buffer: Buffer, *batches: pa.RecordBatch) -> list[pa.RecordBatch]:
        writer = buffer.writer(batches[0].schema)
        for batch in batches:
            writer.write(batch)
        assert writer.rows == sum(b.num_rows for b in batches)
        return list(buffer.read(writer.finish()))

    def test_it_has_a_name_and_an_extension(self, buffer: Buffer) -> None:
        assert buffer.name and buffer.ext and not buffer.ext.startswith(".")

    @pytest.mark.parametrize("kind", VALUES)
    def test_every_type_comes_back(self, buffer: Buffer, kind: str) -> None:
        rows = [{"a": v} for v in [*VALUES[kind], None, *reversed(VALUES[kind])]]
        batch = rows_to_batch(rows, {"a": parse_type(kind)})
        assert same(joined(self.through(buffer, batch)), batch)

    def test_all_types_side_by_side(self, buffer: Buffer) -> None:
        longest = max(map(len, VALUES.values()))
        rows = [{k: v[i] if i < len(v) else None for k, v in VALUES.items()} for i in range(longest)]
        batch = rows_to_batch(rows, {k: parse_type(k) for k in VALUES})
        back = joined(self.through(buffer, batch))
        assert same(back, batch) and repr(batch_to_rows(back)) == repr(batch_to_rows(batch))

    def test_a_slice_is_written_as_what_it_shows(self, buffer: Buffer) -> None:
        for kind, values in VALUES.items():
            whole = rows_to_batch([{"a": v} for v in [*values, None, *values]], {"a": parse_type(kind)})
            part = whole.slice(1, len(values))
            assert same(joined(self.through(buffer, part)), joined([whole.take(pa.array(range(1, len(values) + 1)))])), kind

    def test_rows_keep_their_order_over_many_batches(self, buffer: Buffer) -> None:
        schema = schema_of({"n": parse_type("int")})
        batches = [pa.record_batch([pa.array(range(at, at + 700))], schema=schema) for at in range(0, 70_000, 700)]
        back = self.through(buffer, *batches)
        assert [n for b in back for n in b.column(0).to_pylist()] == list(range(70_000))

    def test_a_file_without_rows(self, buffer: Buffer) -> None:
        writer = buffer.writer(schema_of({"a": parse_type("decimal(5,2)")}))
        assert writer.rows == 0 and sum(b.num_rows for b in buffer.read(writer.finish())) == 0

    def test_the_size_is_known_well_enough_while_writing(self, buffer: Buffer) -> None:
        batch = rows_to_batch([{"n": i * 7919 % 10_007, "s": f"name {i * 31 % 997}"} for i in range(20_000)])
        writer = buffer.writer(batch.schema)
        for _ in range(10):
            writer.write(batch)
        guess, real = writer.size_estimate, len(writer.finish())
        assert real / 8 <= guess <= real * 8

    def test_the_same_rows_give_the_same_bytes(self, buffer: Buffer) -> None:
        batch = rows_to_batch([{"a": 1, "b": "x"}, {"a": None, "b": "y"}])
        files = []
        for _ in range(2):
            writer = buffer.writer(batch.schema)
            writer.write(batch)
            files.append(writer.finish())
        assert files[0] == files[1]

    @pytest.mark.parametrize("data", [b"", b"PAR1", b"{}\n", b"\x1f\x8b\x08\x00"], ids=repr)
    def test_other_bytes_are_refused(self, buffer: Buffer, data: bytes) -> None:
        with pytest.raises(ValueError, match="not a"):
            list(buffer.read(data))
