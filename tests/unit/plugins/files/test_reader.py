"""What is read is what the file says: names, types, nulls, encodings."""

from __future__ import annotations

import gzip
from datetime import date
from typing import Any

import pytest

from anchovies.sdk import ConfigError

TEXT = "náme,b\n1,é€😀\n\n2,\n"
ROWS = [{"náme": "1", "b": "é€😀"}, {"náme": "2", "b": ""}]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"])
def test_encodings_at_every_border(folder: Any, small_blocks: Any, encoding: str, size: int) -> None:
    small_blocks(size)
    folder.write("a.csv", TEXT.encode(encoding))
    assert folder.read(encoding="utf-8" if "utf-8" in encoding else encoding) == ROWS
    assert folder.ctx.bytes_read == len(TEXT.encode(encoding))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp850"])
def test_old_encodings(folder: Any, encoding: str) -> None:
    folder.write("a.csv", "x\nÄé\n".encode(encoding))
    assert folder.read(encoding=encoding) == [{"x": "Äé"}]


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("a.tsv", "a\tb\n1\t2\n", {}),
        ("a.TAB", "a\tb\n1\t2\n", {}), ("a.csv", "a,b\n1,2\n", {}),
        ("a.txt", "a\tb\n1\t2\n", {"delimiter": "/t"}),
        ("a.txt", "a\tb\n1\t2\n", {"delimiter": "\\t"}), ("a.txt", "a\tb\n1\t2\n", {"delimiter": "tab"}),
        ("a.tsv", "a;b\n1;2\n", {"delimiter": ";"}),
        ("a.csv", "a|b\r\n1|2", {"delimiter": "|"}), ("a.csv", "a,b\r1,2\r", {}),
        ("a.csv", "1,2\n", {"header": False, "columns": {"a": "str", "b": "str"}}),
        ("a.csv", "\n\na,b\n1,2", {}), ("a.csv", "'a',b\n'1',2", {"quote": "'"}),
    ],
)  # fmt: skip
def test_layouts(folder: Any, name: str, text: str, given: dict[str, Any]) -> None:
    folder.write(name, text)
    assert folder.read("a.*", **given) == [{"a": "1", "b": "2"}]


def test_no_header_no_columns(folder: Any) -> None:
    folder.write("a.csv", "1,2\n3,4\n")
    assert folder.read(header=False) == [{"c1": "1", "c2": "2"}, {"c1": "3", "c2": "4"}]


def test_text_stays_as_it_is(folder: Any) -> None:
    folder.write("a.csv", 'a,b,c\n007, NA ,""\n1e5,NULL,null\n')
    assert folder.read() == [{"a": "007", "b": " NA ", "c": ""}, {"a": "1e5", "b": "NULL", "c": "null"}]


def test_nulls(folder: Any) -> None:
    folder.write("a.csv", 'a,n\nNA,NA\n"NA",1\n,\n')
    rows = folder.read(nulls=["NA"], columns={"n": "int"})
    assert rows == [{"a": None, "n": None}, {"a": "NA", "n": 1}, {"a": "", "n": None}]


def test_types(folder: Any) -> None:
    folder.write("a.csv", "id,d,extra\n1,2024-02-29,007\n2,,x\n")
    rows = folder.read(columns={"d": "date", "id": "int", "absent": "str"})
    assert rows == [{"id": 1, "d": date(2024, 2, 29), "extra": "007"}, {"id": 2, "d": None, "extra": "x"}]


@pytest.mark.parametrize("limit", [1, 48 << 20])
def test_autodiscover_looks_at_every_row(folder: Any, small_blocks: Any, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("anchovies.plugins.files.reader.IN_MEMORY", limit)
    small_blocks(9)
    folder.write("a.csv", "n,late,id,e,k\n" + "1,2,007,,5\n" * 20 + "3,x,1,,6\n")
    rows = folder.read(autodiscover=True, columns={"k": "str"})
    assert rows[0] == {"n": 1, "late": "2", "id": "007", "e": "", "k": "5"}
    assert rows[-1] == {"n": 3, "late": "x", "id": "1", "e": "", "k": "6"} and len(rows) == 21


def test_gzip(folder: Any) -> None:
    folder.write("a.csv.gz", gzip.compress(b"x\n1\n") + gzip.compress(b"2\n") + b"\0" * 20)
    folder.write("b.csv", gzip.compress(b"x\n3\n"))
    folder.write("c.tsv.gz", gzip.compress(b"x\ty\n4\t5\n"))
    assert [r["x"] for r in folder.read("*.csv*, *.tsv.gz")] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "a,b"])
def test_nothing_in_it(folder: Any, text: str) -> None:
    folder.write("a.csv", text)
    assert folder.read() == [] and folder.ctx.ledgers["t"]["a.csv"]["rows"] == 0
    assert folder.read(autodiscover=True) == []


@pytest.mark.parametrize(
    "given",
    [{"delimiter": ",,"}, {"delimiter": "é"}, {"quote": "ab"}, {"header": "perhaps"}, {"encoding": "klingon"},
     {"encoding": "rot13"}, {"nulls": 3}, {"delimiter": '"'}, {"gzip_max_ratio": 0}, {"path": 3}, {"path": "../x.csv"}, {"path": "a,,b"}],
)  # fmt: skip
def test_wrong_properties(folder: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"tbls\.t"):
        folder.read(**given)
