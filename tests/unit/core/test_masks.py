"""Masks: the same value has the same hash, whatever type it came in; nulls stay null; nothing else stays."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from anchovies.core.errors import RowError
from anchovies.core.masks import masked
from anchovies.core.schema import rows_to_batch

KEY = b"a key that is long enough"
EAST = timezone(timedelta(hours=5))


def hashed(values: list[Any]) -> list[Any]:
    batch = rows_to_batch([{"a": v} for v in values])
    return list(masked(batch.column(0), batch.schema.field(0), "sha256", KEY).to_pylist())


def of(text: str | bytes) -> str:
    return hmac.new(KEY, text if isinstance(text, bytes) else text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([42, "42", 42.0, Decimal("42.00"), 10**18 * 0 + 42], "42"),
        ([1.5, "1.5", Decimal("1.500")], "1.5"),
        ([0, -0.0, Decimal("0.00"), "0"], "0"),
        ([10**30, Decimal(10**30), str(10**30)], str(10**30)),
        ([10**60 + 1], str(10**60 + 1)),
        ([Decimal("1234567890123456789012345678901234.50")], "1234567890123456789012345678901234.5"),
        ([float("nan")], "nan"),
        ([True, "true"], "true"),
        ([date(2026, 1, 2), "2026-01-02"], "2026-01-02"),
        ([time(1, 2, 3)], "01:02:03"),
        ([datetime(2026, 1, 2, 3)], "2026-01-02T03:00:00"),
        ([datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 8, tzinfo=EAST)], "2026-01-02T03:00:00+00:00"),
        ([UUID(int=5)], str(UUID(int=5))),
        ([b"\x00\xff"], b"\x00\xff"),
        ([{"b": [1, 2]}], '{"b":[1,2]}'),
        (["é"], "é"),
    ],
)
def test_the_text_that_is_hashed(values: list[Any], text: str | bytes) -> None:
    for value in values:
        assert hashed([value, None]) == [of(text), None]


def test_neighbours_change_nothing() -> None:
    assert hashed([Decimal("1.5"), Decimal("2.25")]) == [of("1.5"), of("2.25")]
    assert hashed([1, 2.5]) == [of("1"), of("2.5")]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([["a"], None]),
        pa.array([{"x": 1}, None]),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([1, None], pa.uint8()),
        pa.array(["a", None], pa.large_string()),
        pa.array([None, None]),
    ],
    ids=lambda a: str(a.type),
)
def test_arrow_of_any_kind(array: Any) -> None:
    field = pa.field("a", array.type)
    for mask in ("sha256", "redact"):
        found = masked(array, field, mask, KEY)
        assert found.type == pa.string()
        assert found.is_null().to_pylist() == array.is_null().to_pylist()
    assert masked(array, field, "redact", None).to_pylist() == [None if v is None else "***" for v in array.to_pylist()]


def test_a_value_without_a_text_is_not_shown() -> None:
    array = pa.array([1_234_567_891], pa.timestamp("ns"))
    with pytest.raises(RowError) as e:
        masked(array, pa.field("a", array.type), "sha256", KEY)
    assert e.value.message == "column 'a', row 1: a value cannot be kept (the column is masked, so it is not shown)"
    assert "value" not in e.value.where
