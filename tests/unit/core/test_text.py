"""Text is told apart without loss, and parsed strictly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import RowError
from anchovies.core.text import infer_text, parse_text
from anchovies.core.types import parse_type


def texts(*values: str | None) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.string())], names=["a"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["7", "-3", None, "0"], "int"),
        (["007"], "str"),
        (["7", "007"], "str"),
        (["-0"], "str"),
        (["+1"], "str"),
        (["1e5"], "str"),
        (["0x1f"], "str"),
        ([" 1"], "str"),
        (["1_000"], "str"),
        (["12345678901234567890"], "decimal(38,0)"),
        (["9" * 50], "decimal(76,0)"),
        (["9" * 80], "str"),
        (["1.5", "2", "-0.25"], "float"),
        (["9007199254740993", "1.5"], "decimal(17,1)"),
        (["0.1", "0.12345678901234567890"], "decimal(21,20)"),
        (["1.50"], "decimal(3,2)"),
        (["1."], "str"),
        ([".5"], "str"),
        (["nan"], "str"),
        (["inf", "1.5"], "float"),
        (["true", "false"], "bool"),
        (["true", "False"], "str"),
        (["t"], "str"),
        (["2026-01-31"], "date"),
        (["2026-02-30"], "str"),
        (["0000-01-01"], "str"),
        (["2026-01-31 10:00:00", "2026-01-31T10:00:00.5"], "datetime"),
        (["2026-01-31T10:00:00Z", "2026-01-31 10:00:00+01:00"], "datetime(tz)"),
        (["2026-01-31T10:00:00Z", "2026-01-31T10:00:00"], "str"),
        (["2026-01-31T10:00:00.1234567"], "str"),
        (["10:00:00"], "time"),
        (["10:00"], "str"),
        (["1", ""], "str"),
        ([None], "null"),
        ([], "null"),
        (["a"], "str"),
    ],
    ids=str,
)
def test_inference(values: list[str | None], kind: str) -> None:
    assert str(infer_text(texts(*values))["a"]) == kind


numbers = (
    st.from_regex(r"\A[+-]?[0-9]{1,25}(\.[0-9]{0,25})?(e[+-]?[0-9]{1,2})?\Z") | st.floats().map(repr) | st.integers().map(str)
)


@given(st.lists(numbers | st.none(), min_size=1))
def test_a_number_that_was_inferred_is_the_number_that_was_written(values: list[str | None]) -> None:
    batch = texts(*values)
    types = infer_text(batch)
    parsed = parse_text(batch, types).column(0).to_pylist()
    for text, value in zip(values, parsed, strict=True):
        if text is None:
            assert value is None
        elif isinstance(value, float):
            assert repr(value) == text or str(int(value)) == text
        elif isinstance(value, int | Decimal):
            assert Decimal(text) == value and text[:1] != "+"
        else:
            assert value == text


def test_parsing_keeps_the_order_of_the_types_and_undeclared_text() -> None:
    table = pa.table({"x": ["a", None], "n": pa.chunked_array([["1"], ["2"]])})
    out = parse_text(table, {n: parse_type(t) for n, t in {"n": "int", "absent": "date"}.items()})
    assert out.to_pydict() == {"n": [1, 2], "absent": [None, None], "x": ["a", None]}


def test_declared_json_is_checked_and_kept_as_it_is() -> None:
    out = parse_text(texts('{"a":  1}', None), {"a": parse_type("json")})
    assert out.column(0).to_pylist() == ['{"a":  1}', None]
    with pytest.raises(RowError, match="row 1"):
        parse_text(texts("{"), {"a": parse_type("json")})


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("int", "1.0"), ("int", ""), ("float", "1,5"), ("bool", "maybe"), ("date", "31.01.2026"), ("datetime", "x"), ("time", "1")],
)
def test_what_does_not_fit_is_named(kind: str, bad: str) -> None:
    good: dict[str, Any] = {
        "int": "1",
        "float": "1",
        "bool": "yes",
        "date": "2026-01-01",
        "datetime": "2026-01-01",
        "time": "10:00",
    }
    with pytest.raises(RowError) as e:
        parse_text(texts(*[good[kind]] * 700, None, bad, *[good[kind]] * 300), {"a": parse_type(kind)}, first_row=1000)
    assert e.value.where["row"] == 1701 and repr(bad) in e.value.message and "'a'" in e.value.message


@given(st.lists(st.text(max_size=6), min_size=1))
def test_any_text_can_be_looked_at(values: list[str]) -> None:
    batch = texts(*values)
    parse_text(batch, infer_text(batch))
