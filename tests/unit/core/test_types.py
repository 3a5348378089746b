"""Types are read from text, written as text, and joined without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import ConfigError
from anchovies.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    DATETIME_TZ,
    FLOAT,
    INT,
    JSON,
    NULL,
    STR,
    TIME,
    UUID,
    ColType,
    decimal,
    join,
    list_of,
    parse_type,
)

FLAT = [NULL, BOOL, INT, FLOAT, STR, BYTES, DATE, TIME, DATETIME, DATETIME_TZ, UUID, JSON]
decimals = st.integers(1, 76).flatmap(lambda p: st.integers(0, p).map(lambda s: decimal(p, s)))
any_type = st.recursive(st.sampled_from(FLAT) | decimals, lambda inner: inner.map(list_of), max_leaves=3)


@given(any_type)
def test_what_is_written_is_read(t: ColType) -> None:
    assert parse_type(str(t)) == t


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Integer", "int"),
        (" TEXT ", "str"),
        ("object", "json"),
        ("timestamptz", "datetime(tz)"),
        ("decimal( 18 , 2 )", "decimal(18,2)"),
        ("numeric(5)", "decimal(5,0)"),
        ("list[decimal(5,2)]", "list[decimal(5,2)]"),
    ],
)
def test_other_spellings(text: str, expected: str) -> None:
    assert str(parse_type(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "inti", "decimal(77,0)", "decimal(2,3)", "decimal(0,0)", "list[]", "list[int", "varchar(5)"]
)
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_type(text)


@given(any_type, any_type)
def test_joining_takes_no_side(a: ColType, b: ColType) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, a) == a
    assert join(a, NULL) == a
    assert join(join(a, b), a) == join(a, b)


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        ("int", "float", "float"),
        ("int", "decimal(5,2)", "decimal(21,2)"),
        ("decimal(10,0)", "decimal(5,5)", "decimal(15,5)"),
        ("decimal(76,0)", "decimal(5,2)", "json"),
        ("int", "str", "json"),
        ("bool", "int", "json"),
        ("datetime", "datetime(tz)", "json"),
        ("date", "datetime", "json"),
        ("list[int]", "list[float]", "list[float]"),
        ("list[int]", "int", "json"),
    ],
)
def test_joins(a: str, b: str, both: str) -> None:
    assert str(join(parse_type(a), parse_type(b))) == both


@pytest.mark.parametrize(
    ("a", "b", "joined"), [("int", "str", "str"), ("date", "int", "str"), ("int", "json", "json"), ("bool", "bytes", "json")]
)
def test_types_that_were_inferred_from_text_join_to_text(a: str, b: str, joined: str) -> None:
    assert str(join(parse_type(a), parse_type(b), from_text=True)) == joined
    assert str(join(parse_type(b), parse_type(a))) == "json"
