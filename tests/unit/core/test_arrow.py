"""Arrow data of any origin become our types, exactly, or are refused by name."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from anchovies.core.arrow import conform, field, schema_of, to_arrow, type_of, types_of
from anchovies.core.errors import ConfigError, RowError
from anchovies.core.schema import batch_to_rows
from anchovies.core.types import parse_type

DAY = datetime(2026, 11, 22, 17, 5, 1, 123456)
NOON = time(12, 0, 5)
ZONED = datetime(2026, 1, 1, tzinfo=UTC)
ORIGINS: list[tuple[pa.DataType, list[Any], str, list[Any] | None]] = [
    *((t, [1, None, -5], "int", None) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((t, [1, None, 200], "int", None) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    *((t, [0.5, None, -2.0], "float", None) for t in (pa.float16(), pa.float32(), pa.float64())),
    *((t, ["a", None, ""], "str", None) for t in (pa.string(), pa.large_string(), pa.string_view())),
    *((t, [b"ab", None], "bytes", None) for t in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))),
    *((t, [Decimal("1.50"), None], "decimal(5,2)", None) for t in (pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal128(5, 2))),
    (pa.decimal256(76, 2), [Decimal("1.50")], "decimal(76,2)", None),
    (pa.decimal128(3, -2), [Decimal("1.5E+3")], "decimal(5,0)", [Decimal(1500)]),
    *((pa.timestamp(u), [DAY.replace(microsecond=0)], "datetime", None) for u in ("s", "ms", "us", "ns")),
    *((pa.timestamp(u, "Europe/Berlin"), [ZONED], "datetime(tz)", None) for u in ("s", "ms", "us", "ns")),
    (pa.date32(), [date(2026, 1, 1), None], "date", None),
    (pa.date64(), [date(2026, 1, 1), None], "date", None),
    *((t, [NOON, None], "time", None) for t in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))),
    (pa.dictionary(pa.int8(), pa.large_string()), ["x", "x", None], "str", None),
    (pa.dictionary(pa.int32(), pa.int16()), [5, None], "int", None),
    (pa.list_(pa.int8()), [[1, None], None, []], "list[int]", None),
    (pa.large_list(pa.large_string()), [["a"], None], "list[str]", None),
    (pa.list_(pa.float32(), 2), [[0.5, 1.0], None], "list[float]", None),
    (pa.list_(pa.struct([("a", pa.int8())])), [[{"a": 1}], None], "list[json]", ['[{"a":1}]']),
    (pa.struct([("a", pa.int8()), ("at", pa.date32())]), [{"a": 1, "at": date(2026, 1, 1)}, None], "json", None),
    (pa.map_(pa.string(), pa.int8()), [[("k", 1)], None], "json", [{"k": 1}, None]),
    (pa.map_(pa.int8(), pa.int8()), [[(1, 2)], None], "json", [[[1, 2]], None]),
    (pa.null(), [None, None], "null", None),
    (pa.bool_(), [True, None], "bool", None),
]  # fmt: skip


@pytest.mark.parametrize(("t", "values", "kind", "read"), ORIGINS, ids=[f"{o[0]}" for o in ORIGINS])
def test_every_arrow_type_has_its_type(t: pa.DataType, values: list[Any], kind: str, read: list[Any] | None) -> None:
    batch = pa.record_batch([pa.array(values, t)], names=["a"])
    found = types_of(batch)
    assert str(found["a"]) == kind
    out = conform(batch, found)
    assert out.schema.equals(schema_of(found), check_metadata=True)
    out.validate(full=True)
    if kind != "list[json]":
        assert [r["a"] for r in batch_to_rows(out)] == (values if read is None else read)
    half = conform(batch.slice(1), found)
    assert half.to_pylist() == out.to_pylist()[1:]


def test_a_union_is_json() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])])
    batch = pa.record_batch([union], names=["a"])
    assert batch_to_rows(conform(batch, types_of(batch))) == [{"a": 1}, {"a": "y"}]


def test_extension_types_are_known() -> None:
    uuids = pa.array([UUID(int=7).bytes, None], pa.uuid())
    texts = pa.array(['{"a": 1}', None], pa.json_())
    batch = pa.record_batch([uuids, texts], names=["u", "j"])
    assert {n: str(t) for n, t in types_of(batch).items()} == {"u": "uuid", "j": "json"}
    assert batch_to_rows(conform(batch, types_of(batch))) == [{"u": UUID(int=7), "j": {"a": 1}}, {"u": None, "j": None}]


@pytest.mark.parametrize("kind", ["json", "uuid", "str", "decimal(50,3)", "list[json]", "list[list[uuid]]", "datetime(tz)"])
def test_a_field_says_its_type(kind: str) -> None:
    assert type_of(field("a", parse_type(kind))) == parse_type(kind)


@pytest.mark.parametrize("t", [pa.duration("us"), pa.month_day_nano_interval()], ids=str)
def test_durations_are_refused_by_name(t: pa.DataType) -> None:
    with pytest.raises(ConfigError, match="'a' has the Arrow type"):
        type_of(pa.field("a", t))


def test_nothing_is_copied_where_nothing_changes() -> None:
    types = {"a": parse_type("int"), "u": parse_type("uuid")}
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([None], pa.string())], schema=schema_of(types))
    assert conform(batch, types) is batch
    wider = conform(batch, {"new": parse_type("date"), **types})
    assert wider.column(1).buffers()[1].address == batch.column(0).buffers()[1].address


def test_columns_come_in_order_and_absent_ones_are_null() -> None:
    table = pa.table({"b": pa.chunked_array([[1], [2, 3]]), "x": [1, 2, 3]})
    out = conform(table, {n: parse_type(t) for n, t in {"a": "list[int]", "b": "int"}.items()})
    assert out.to_pydict() == {"a": [None] * 3, "b": [1, 2, 3]}
    assert conform(table.slice(0, 0), {"b": parse_type("float")}).num_rows == 0


@pytest.mark.parametrize(
    ("array", "kind", "row"),
    [
        (pa.array([0, 1001], pa.timestamp("ns")), "datetime", 1),
        (pa.array([2**63 - 1, 2**63], pa.uint64()), "int", 1),
        (pa.array([1.0, 1.5]), "int", 1),
        (pa.array([2**53, 2**53 + 1]), "float", 1),
        (pa.array([1, 1000]), "decimal(3,1)", 1),
        (pa.array([Decimal("1.00"), Decimal("1.25")]), "decimal(5,1)", 1),
        (pa.array([Decimal("0.5"), Decimal("0.1234567890123456789")]), "float", 1),
        (pa.array([datetime(2026, 1, 1), DAY]), "date", 1),
        (pa.array([1, 2]), "bool", 1),
        (pa.array(["1", "x"]), "int", 1),
        (pa.array([b"x", b"y"]), "str", 0),
        (pa.array([datetime(2026, 1, 1)]), "datetime(tz)", 0),
        (pa.array([[1], [None, 7.5]], pa.list_(pa.float64())), "list[int]", 1),
    ],
    ids=str,
)  # fmt: skip
def test_loss_is_refused_and_named(array: pa.Array, kind: str, row: int) -> None:
    with pytest.raises(RowError) as e:
        conform(pa.record_batch([array], names=["col"]), {"col": parse_type(kind)}, first_row=100)
    assert "'col'" in e.value.message and kind in e.value.message and f"row {101 + row}" in e.value.message
    assert e.value.where["row"] == 100 + row


@pytest.mark.parametrize(
    ("array", "kind", "expected"),
    [
        (pa.array([1, None, -(2**63)]), "decimal(38,2)", [Decimal("1.00"), None, Decimal(-(2**63))]),
        (pa.array([5]), "decimal(3,1)", [Decimal("5.0")]),
        (pa.array([2**64 - 1], pa.uint64()), "decimal(38,0)", [Decimal(2**64 - 1)]),
        (pa.array([0.1, 2.5]), "decimal(5,2)", [Decimal("0.10"), Decimal("2.50")]),
        (pa.array([Decimal("0.1")]), "float", [0.1]),
        (pa.array([date(2026, 1, 1)]), "datetime", [datetime(2026, 1, 1)]),
        (pa.array([3, None]), "json", ["3", None]),
        (pa.array(["a", "1"]), "json", ['"a"', '"1"']),
        (pa.array([None, None]), "list[int]", [None, None]),
    ],
    ids=str,
)
def test_widening_keeps_the_value(array: pa.Array, kind: str, expected: list[Any]) -> None:
    out = conform(pa.record_batch([array], names=["a"]), {"a": parse_type(kind)})
    assert out.column(0).to_pylist() == expected and out.column(0).type == to_arrow(parse_type(kind))


def test_unsigned_values_over_int64_widen_their_column() -> None:
    batch = pa.record_batch([pa.array([1, 2**64 - 1], pa.uint64())], names=["a"])
    assert str(types_of(batch)["a"]) == "decimal(38,0)"
    assert conform(batch, types_of(batch)).column(0).to_pylist() == [Decimal(1), Decimal(2**64 - 1)]


def test_two_columns_of_one_name_are_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(ConfigError, match="two columns named 'a'"):
        conform(batch, {"a": parse_type("int")})
