"""Rows become batches with a class per Python type, whatever is mixed and wherever in the chunk it stands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import RowError
from anchovies.core.schema import batch_to_rows, rows_to_batch, types_of_rows
from anchovies.core.types import parse_type

EAST = timezone(timedelta(hours=2))


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Nano(datetime):
    nanosecond = 7


class Scalar:
    """What numpy's scalars look like."""

    def item(self) -> int:
        return 1


def only(values: list[Any]) -> str:
    return str(types_of_rows([{"a": v} for v in values])["a"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, None], "null"),
        ([True, None], "bool"),
        ([1, None, -(2**63)], "int"),
        ([1, 2**63], "decimal(38,0)"),
        ([1, -(10**38)], "decimal(76,0)"),
        ([1.5, float("nan"), None], "float"),
        ([1, 2.5], "float"),
        ([2**53 + 1, 2.5], "json"),
        ([2**70, 2.5], "json"),
        (["a", ""], "str"),
        ([b"a", bytearray(b"b"), memoryview(b"c")], "bytes"),
        ([Decimal("1.50"), Decimal("100")], "decimal(5,2)"),
        ([Decimal("1E+5")], "decimal(6,0)"),
        ([Decimal("0.001"), Decimal(0)], "decimal(4,3)"),
        ([Decimal("1.5"), 7], "decimal(20,1)"),
        ([Decimal("1.5"), 2.5], "json"),
        ([date(2026, 1, 1)], "date"),
        ([datetime(2026, 1, 1)], "datetime"),
        ([datetime(2026, 1, 1, tzinfo=EAST), datetime(2026, 1, 1, tzinfo=UTC)], "datetime(tz)"),
        ([date(2026, 1, 1), datetime(2026, 1, 1)], "json"),
        ([time(1)], "time"),
        ([UUID(int=1)], "uuid"),
        ([{"a": 1}, [1], (1,)], "json"),
        ([1, "a"], "json"),
        ([True, 1], "json"),
        ([Color.RED], "str"),
        ([Level.LOW, 5], "int"),
    ],
    ids=str,
)
def test_the_type_of_all_values(values: list[Any], kind: str) -> None:
    assert only(values) == kind
    assert only([None, *values]) == only([*values, None]) == kind


def test_a_key_that_comes_late_is_a_column_and_order_is_first_seen() -> None:
    batch = rows_to_batch([{"b": 1}, {}, {"c": 2, "a": 3, "b": None}])
    assert batch.schema.names == ["b", "c", "a"]
    assert batch.to_pylist() == [{"b": 1, "c": None, "a": None}, {"b": None, "c": None, "a": None}, {"b": None, "c": 2, "a": 3}]


def test_rows_of_one_length_with_other_keys_or_another_order() -> None:
    assert rows_to_batch([{"a": 1, "b": 2}, {"b": 3, "a": 4}, {"a": 5, "c": 6}]).to_pydict() == {
        "a": [1, 4, 5],
        "b": [2, 3, None],
        "c": [None, None, 6],
    }


def test_any_mapping_is_a_row() -> None:
    assert rows_to_batch([MappingProxyType({"a": 1}), {"a": 2}]).to_pydict() == {"a": [1, 2]}


scalars: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "str": st.text(),
    "bool": st.booleans(),
    "bytes": st.binary(),
    "date": st.dates(),
    "time": st.times().map(lambda t: t.replace(fold=0)),
    "datetime": st.datetimes().map(lambda t: t.replace(fold=0)),
    "datetime(tz)": st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.sampled_from([UTC, EAST])),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20),
    "uuid": st.uuids(),
    "json": st.lists(st.integers() | st.text() | st.dates()) | st.dictionaries(st.text(), st.integers()),
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    columns = draw(st.lists(st.sampled_from(sorted(scalars)), min_size=1, max_size=4))
    cells = {f"{i}{kind}": st.none() | scalars[kind] for i, kind in enumerate(columns)}
    return draw(st.lists(st.fixed_dictionaries({}, optional=cells), min_size=1, max_size=8).filter(any))


@given(tables())
def test_rows_come_back(rows: list[dict[str, Any]]) -> None:
    back = batch_to_rows(rows_to_batch(rows))
    names = list(dict.fromkeys(k for row in rows for k in row))
    assert back == [{n: row.get(n) for n in names} for row in rows]
    assert types_of_rows(rows).keys() == dict.fromkeys(names).keys()


@given(st.lists(st.one_of(*scalars.values()), min_size=1))
def test_whatever_is_mixed_nothing_changes(values: list[Any]) -> None:
    """Or it is refused for its zones, and says so."""
    try:
        back = [r["a"] for r in batch_to_rows(rows_to_batch([{"a": v} for v in values]))]
    except RowError as e:
        assert "time zone" in e.message
        return
    assert back == values


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "builtins.object"),
        (Scalar(), "take its .item()"),
        ({1, 2}, "builtins.set"),
        ("a\ud800", "surrogate"),
        ({"a": "\ud800"}, "surrogate"),
        ({1: 2}, "not text"),
        (Decimal("NaN"), "numbers only"),
        (10**76, "more than 76 digits"),
        (Decimal("1E-77"), "more than 76 digits"),
        (time(1, tzinfo=UTC), "zone"),
        (Nano(2026, 1, 1), "nanoseconds"),
        (timedelta(1), "datetime.timedelta"),
        (1j, "complex"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_kept_is_named(value: Any, says: str) -> None:
    with pytest.raises(RowError) as e:
        rows_to_batch([{"x": None, "a": None}, {"a": value}], first_row=10)
    assert says in e.value.message and "'a', row 12" in e.value.message and e.value.where["row"] == 11


def test_mixed_zones_are_refused_and_named() -> None:
    with pytest.raises(RowError, match=r"row 2: .* it has a time zone, values before it have none"):
        types_of_rows([{"a": datetime(2026, 1, 1)}, {"a": datetime(2026, 1, 1, tzinfo=UTC)}])


@pytest.mark.parametrize("rows", [[{1: 2}], [{}, {"": 1}], [{"a": 1, None: 2}]], ids=str)
def test_names_are_texts(rows: list[Mapping[Any, object]]) -> None:
    with pytest.raises(RowError, match="column name"):
        rows_to_batch(rows)


def test_rows_without_columns_are_refused() -> None:
    with pytest.raises(RowError, match="without any column"):
        rows_to_batch([{}, {}])


@pytest.mark.parametrize(
    ("kind", "given_", "kept"),
    [
        ("int", ["5", 6, "+7", Decimal(8), 9.0, None], [5, 6, 7, 8, 9, None]),
        ("float", ["1.5", 2, "-inf", Decimal("0.5")], [1.5, 2.0, float("-inf"), 0.5]),
        ("decimal(5,2)", ["1.5", 2, 2.25, Decimal("3")], [Decimal("1.50"), Decimal("2.00"), Decimal("2.25"), Decimal("3.00")]),
        ("bool", ["true", False, 1, "no"], [True, False, True, False]),
        ("date", ["2026-01-02", date(2026, 1, 3), datetime(2026, 1, 4)], [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]),
        ("datetime", ["2026-01-02 03:04:05.6", date(2026, 1, 3)], [datetime(2026, 1, 2, 3, 4, 5, 600_000), datetime(2026, 1, 3)]),
        ("datetime(tz)", ["2026-01-02T03:00:00+02:00"], [datetime(2026, 1, 2, 1, tzinfo=UTC)]),
        ("time", ["10:00", time(1)], [time(10), time(1)]),
        ("uuid", ["0" * 31 + "1", UUID(int=2)], [UUID(int=1), UUID(int=2)]),
        ("json", ["text", 1, {"a": 1}], ["text", 1, {"a": 1}]),
        ("list[int]", [[1, "2"], (3,), None, []], [[1, 2], [3], None, []]),
        ("list[list[date]]", [[["2026-01-02"], None]], [[[date(2026, 1, 2)], None]]),
    ],
)
def test_declared_columns(kind: str, given_: list[Any], kept: list[Any]) -> None:
    declared = {"first": parse_type("str"), "a": parse_type(kind)}
    batch = rows_to_batch([{"other": 1, "a": v} for v in given_], declared)
    assert batch.schema.names == ["first", "a", "other"]
    assert [r["a"] for r in batch_to_rows(batch)] == kept


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "x"), ("int", 1.5), ("int", True), ("int", 2**63), ("int", "0x1f"), ("int", ""), ("int", {}), ("int", [1]),
        ("float", "abc"), ("float", 2**53 + 1), ("float", "1e999"),
        ("decimal(3,1)", "1.25"), ("decimal(3,1)", 100), ("bool", 2),
        ("str", b"x"), ("date", "2026-02-30"), ("date", datetime(2026, 1, 1, 1)),
        ("datetime", "2026-01-01T00:00:00Z"),
        ("datetime", datetime(2026, 1, 1, tzinfo=UTC)), ("datetime(tz)", datetime(2026, 1, 1)),
        ("datetime(tz)", "2026-01-01 00:00"),
        ("time", "25:00"), ("uuid", "xyz"), ("bytes", 1), ("list[int]", "x"), ("list[int]", [1, "x"]), ("null", 1),
    ],
)  # fmt: skip
def test_declared_types_must_fit(kind: str, value: Any) -> None:
    rows = [{"a": None}, {"a": None}, {"a": value}]
    with pytest.raises(RowError) as e:
        rows_to_batch(rows, {"a": parse_type(kind)})
    assert "'a', row 3" in e.value.message and kind in e.value.message and len(e.value.message) < 200


def test_a_bad_value_is_found_among_good_ones_of_several_kinds() -> None:
    rows = [{"a": v} for v in [1, "2", 3.0] * 50]
    rows[77] = {"a": "2,5"}
    with pytest.raises(RowError, match=r"row 78: '2,5' \(str\) does not fit int"):
        rows_to_batch(rows, {"a": parse_type("int")})
