"""Whatever Python's csv module writes or reads, our reader reads alike, however the bytes are cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchovies.plugins.files.blocks import Cutter, Grammar, blocks
from anchovies.plugins.files.layout import Layout
from anchovies.plugins.files.reader import read_text
from anchovies.sdk import SourceError, Tbl

DELIMITERS = [",", "\t", ";", "|", " ", "x"]
FIELD = st.text(alphabet=st.sampled_from(list("ab1é'\"\\ ,;|\t\r\nx€😀")), max_size=6)

PLAIN = st.text(alphabet="ab\"' ", min_size=1, max_size=4)


def tables(width: int) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(FIELD, min_size=width, max_size=width), min_size=1, max_size=8)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for i in range(0, len(data), size):
        yield data[i : i + size]


def read(data: bytes, layout: Layout, size: int, tbl: Tbl = Tbl("t")) -> list[list[str]]:
    found = list(read_text(pieces(data, size), "f.csv", tbl, layout))
    return [list(row.values()) for b in found for row in b.to_pylist()]


@pytest.fixture(autouse=True)
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.plugins.files.blocks.BLOCK", 7)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4).flatmap(tables), st.sampled_from(DELIMITERS), st.sampled_from("\"'"), st.booleans(),
       st.sampled_from(["\n", "\r\n"]), st.integers(1, 40))  # fmt: skip
def test_what_csv_writes_is_read(
    rows: list[list[str]], delimiter: str, quote: str, all_quoted: bool, end: str, size: int
) -> None:
    out = io.StringIO(newline="")
    lone_cr = any("\r" in field for row in rows for field in row)  # which Python's writer forgets to quote
    quoting = csv.QUOTE_ALL if all_quoted or lone_cr else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=end).writerows(rows)
    assert read(out.getvalue().encode(), Layout(delimiter, quote, header=False), size) == rows


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from(list('ab,"\n\r')), max_size=40), st.integers(1, 40))
def test_any_text_is_read_as_csv_reads_it_or_refused(text: str, size: int) -> None:
    want = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    try:
        got = read(text.encode(), Layout(header=False), size)
    except SourceError as e:
        ragged = len({len(row) for row in want}) > 1
        assert ragged or "never closed" in str(e), (text, e)
    else:
        assert got == want, text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(3), st.integers(1, 40))
def test_escapes_instead_of_doubled_quotes(rows: list[list[str]], size: int) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    assert read(out.getvalue().encode(), Layout(escape="\\", header=False), size) == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.text(alphabet="ab\"' ", min_size=1, max_size=4), min_size=2, max_size=2), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_without_quotes_a_quote_is_a_character(rows: list[list[str]], size: int) -> None:
    text = "".join(",".join(row) + "\n" for row in rows)
    assert read(text.encode(), Layout(quote=None, header=False), size) == rows


@given(st.text(alphabet=st.sampled_from(list('ab,"\n')), max_size=60), st.integers(1, 20))
def test_blocks_are_the_file_cut_in_pieces(text: str, size: int) -> None:
    data, cutter = text.encode(), Cutter(Grammar(",", '"', None))
    try:
        found = list(blocks(pieces(data, size), cutter, "f", size=5))
    except SourceError:
        assert text.count('"') % 2 == 1 or '"' in text
        return
    assert b"".join(b.data for b in found) == data
    at, line = 0, 1
    for b in found:
        assert (b.offset, b.line) == (at, line)
        at, line = at + len(b.data), line + b.data.count(b"\n")
