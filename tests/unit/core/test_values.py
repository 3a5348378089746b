"""Checkpoint values, and the text of json columns, come back as they were."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import ConfigError
from anchovies.core.values import MAX_VALUE, decode, encode, from_json, short, to_json

zones = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), timezone(timedelta(hours=14))])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times().map(lambda t: t.replace(fold=0))
    | st.datetimes().map(lambda t: t.replace(fold=0))
    | st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones).map(lambda t: t.replace(fold=0))
    | st.decimals(allow_nan=False)
    | st.uuids()
)
keys = st.text(max_size=5) | st.sampled_from(["$date", "$decimal", "$", "$$int", "$x"])
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@given(values)
def test_a_checkpoint_value_comes_back(value: Any) -> None:
    through = json.loads(json.dumps(encode(value), allow_nan=False))
    assert repr(decode(through)) == repr(value)


@given(values)
def test_a_json_column_comes_back(value: Any) -> None:
    assert repr(from_json(to_json(value))) == repr(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_nan_is_no_position_but_may_be_in_a_row(value: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        encode(value)
    assert repr(from_json(to_json(value))) == repr(value)


def test_what_is_stored_can_be_read_by_people() -> None:
    assert encode({"at": datetime(2026, 11, 22, 17, 5, tzinfo=UTC), "$n": Decimal("1.50")}) == {
        "at": {"$datetime": "2026-11-22T17:05:00+00:00"},
        "$$n": {"$decimal": "1.50"},
    }
    assert encode([date(2026, 1, 2), time(1, 2), b"\x00", UUID(int=1), 2**70, (1,)]) == [
        {"$date": "2026-01-02"},
        {"$time": "01:02:00"},
        {"$bytes": "AA=="},
        {"$uuid": "00000000-0000-0000-0000-000000000001"},
        {"$int": str(2**70)},
        [1],
    ]


@pytest.mark.parametrize("foreign", ['{"$date": "yesterday"}', '{"$decimal": "x"}', '{"$oid": "5"}', '{"$int": 7}'])
def test_foreign_json_that_looks_like_ours_stays_what_it_is(foreign: str) -> None:
    assert from_json(foreign) == json.loads(foreign)


@pytest.mark.parametrize("value", [{1: 2}, object(), {1, 2}, "\ud800", {"\ud800": 1}, int], ids=repr)
def test_what_cannot_be_kept_says_so(value: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        encode(value)


def test_nesting_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="nested"):
        encode(loop)


def test_large_values_are_refused() -> None:
    assert encode("x" * (MAX_VALUE - 2))
    with pytest.raises(ConfigError, match="limit is 65536"):
        encode("x" * (MAX_VALUE - 1))


@pytest.mark.parametrize("value", ["x" * 1000, 10**5000, list(range(1000))], ids=["text", "digits", "list"])
def test_messages_show_little_of_a_value(value: Any) -> None:
    assert len(short(value)) <= 42


def test_checkpoints_need_no_arrow() -> None:
    code = "import sys, anchovies.core.values; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
