"""Rows of texts take a road of their own; what comes out is what the plain road makes of them, errors included."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.errors import RowError
from anchovies.core.schema import rows_to_batch
from anchovies.core.textrows import TextRows
from anchovies.core.types import ColType, parse_type


class Text(str):
    __slots__ = ()


class Color(StrEnum):
    RED = "red"


ODD = "\x1f\n\r\t\",\\'\x00\ufeff\x85\u2028é😀\udc00"
texts = st.text() | st.text(st.sampled_from(ODD), max_size=4)
strange = st.none() | st.integers(0, 9) | st.just(b"x") | texts.map(Text) | st.just(Color.RED) | st.lists(texts, max_size=1)
keys = st.text(max_size=2) | st.sampled_from(["a", "b", ODD[:2]])


@st.composite
def tables(draw: st.DrawFn) -> list[Any]:
    """Mostly rows of texts with the same keys; here and there something else."""
    names = draw(st.lists(keys, unique=True, max_size=4))
    row: st.SearchStrategy[Any] = st.tuples(*[texts for _ in names]).map(lambda values: dict(zip(names, values, strict=True)))
    if draw(st.booleans()):
        row = st.one_of(
            row, st.fixed_dictionaries(dict.fromkeys(names, texts | strange)), st.dictionaries(keys, texts, max_size=4)
        )
        row = st.one_of(row, row.map(lambda r: dict(reversed(r.items()))), row.map(OrderedDict), row.map(MappingProxyType))
    return draw(st.lists(row, min_size=1, max_size=12))


types = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["str", "int", "date", "json", "uuid", "list[str]", "null", "float"]).map(parse_type),
)


def outcome(make: Callable[[], pa.RecordBatch]) -> object:
    try:
        batch = make()
    except (RowError, UnicodeEncodeError) as e:
        return type(e), str(e), getattr(e, "where", None)
    batch.validate(full=True)
    return batch.schema.to_string(), batch.to_pylist()


def by_text(rows: list[Any], declared: Mapping[str, ColType], blocks: int, first_row: int) -> pa.RecordBatch:
    """As the gathering does it: what cannot be put away is made of dicts, with everything before it."""
    texts = TextRows(declared)
    for at in range(0, len(rows), blocks):
        if not texts.take(rows[at : at + blocks]):
            return rows_to_batch([*texts.rows(), *rows[at:]], declared, first_row=first_row)
    assert texts.count == len(rows)
    return texts.batch(first_row=first_row)


@given(tables(), types, st.integers(1, 12), st.integers(0, 5))
def test_the_outcome_is_that_of_the_plain_road(
    rows: list[Any], declared: dict[str, ColType], blocks: int, first_row: int
) -> None:
    plain = outcome(lambda: rows_to_batch(rows, declared, first_row=first_row))
    assert outcome(lambda: by_text(rows, declared, blocks, first_row)) == plain


@given(st.lists(st.tuples(texts, texts).map(lambda pair: dict(zip("ab", pair, strict=True))), min_size=1, max_size=8))
def test_rows_that_were_put_away_come_back_as_they_were(rows: list[Any]) -> None:
    kept = TextRows({})
    said = "".join(row[name] for row in rows for name in ("a", "b"))
    plain = not set(said) & {"\x1f", "\n", "\r", "\udc00"}
    assert kept.take(rows) == plain
    assert kept.rows() == (rows if plain else [])


def test_many_rows_and_long_texts() -> None:
    rows = [{"n": str(i), "text": "x" * (i % 7) * 1000} for i in range(3_000)]
    kept = TextRows({})
    assert kept.take(rows[:2_000]) and kept.take(rows[2_000:])
    assert kept.batch().equals(rows_to_batch(rows))
    assert kept.rows() == rows


@pytest.mark.parametrize(
    "row",
    [
        {"a": "1", "b": None},
        {"a": "1", "b": 2},
        {"a": "1"},
        {"a": "1", "": "2"},
        {"a": "1", None: "2"},
        {"a": "1", "c": "2"},
        {"a": "1", "b": "2", "c": "3"},
        {"a": "1", "b": "\udc00"},
        {},
        OrderedDict(a="1", b="2"),
    ],
    ids=repr,
)
def test_what_is_not_alike_is_not_taken(row: Any) -> None:
    good = {"a": "0", "b": "0"}
    kept = TextRows({})
    assert not kept.take([good, row])
    assert kept.take([good]) and not kept.take([row])
    assert kept.rows() == [good]


def test_an_enum_that_stands_for_another_value_is_not_taken_for_a_text() -> None:
    rows: list[Any] = [{"a": "1", "b": "2"}]
    assert TextRows({}).take(rows)

    class Level(StrEnum):
        LOW = 1

        def __new__(cls, value: int) -> Level:
            made = str.__new__(cls, f"level {value}")
            made._value_ = value
            return made

    rows.append({"a": "1", "b": Level.LOW})
    kept = TextRows({})
    assert not kept.take(rows) and kept.take(rows[:1])
    assert rows_to_batch(rows).to_pylist() == [{"a": "1", "b": '"2"'}, {"a": "1", "b": "1"}]


def test_the_first_row_gives_the_order_of_the_columns() -> None:
    kept = TextRows({})
    assert kept.take([{"b": "1", "a": "2"}, {"a": "3", "b": "4"}])
    assert kept.rows() == [{"b": "1", "a": "2"}, {"b": "4", "a": "3"}]
    assert kept.batch().to_pydict() == {"b": ["1", "4"], "a": ["2", "3"]}


def test_the_error_names_the_row() -> None:
    rows = [{"a": "1", "b": "1"}, {"a": "2", "b": "x"}]
    kept = TextRows({"b": parse_type("int")})
    assert kept.take(rows)
    with pytest.raises(RowError, match="column 'b', row 9: 'x'") as error:
        kept.batch(first_row=7)
    assert error.value.where["row"] == 8
