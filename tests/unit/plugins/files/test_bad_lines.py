"""Lines that cannot be kept: set aside with file and line, from the file to the database, counted everywhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import anchovies
from anchovies.core.types import parse_type
from anchovies.engine.rejected import rejected
from anchovies.engine.verify import Verifier
from anchovies.plugins.files import CsvDownloader
from anchovies.sdk import Column, SourceError, Tbl
from anchovies.store.keys import Home
from anchovies.store.local import LocalStore
from anchovies.testing.context import FakeContext

TEXT = 'a,b\n1,x\n2\nmany,y\n\n"3","two\nlines"\n4,z,more\n5,"w\n6"\n"no",q\n7,end'
BAD = [
    {"row": "2", "reason": "1 fields where the first row has 2", "line": 3, "column": None},
    {"row": {"a": "many", "b": "y"}, "reason": "column 'a': 'many' (str) does not fit int", "line": 4, "column": "a"},
    {"row": "4,z,more", "reason": "3 fields where the first row has 2", "line": 8, "column": None},
    {"row": {"a": "no", "b": "q"}, "reason": "column 'a': 'no' (str) does not fit int", "line": 11, "column": "a"},
]
KEPT = [{"a": 1, "b": "x"}, {"a": 3, "b": "two\nlines"}, {"a": 5, "b": "w\n6"}, {"a": 7, "b": "end"}]


def reading(folder: Any, **given: Any) -> list[dict[str, Any]]:
    """The rows of `*.csv` by a table with one declared column."""
    tbl = Tbl("t", (Column("a", parse_type("int")),), properties={"path": "*.csv"}).with_(**given)
    found: list[dict[str, Any]] = folder.ctx.run(folder.operator.files(tbl))
    return found


@pytest.mark.parametrize("size", [3, 8, 20, 1000])
@pytest.mark.parametrize("autodiscover", [False, True])
def test_file_line_and_reason(folder: Any, small_blocks: Callable[[int], None], size: int, autodiscover: bool) -> None:
    small_blocks(size)
    folder.write("x.csv", TEXT)
    assert reading(folder, on_bad_row="reject", autodiscover=autodiscover) == KEPT
    assert folder.ctx.rejects == [{**b, "file": "x.csv"} for b in BAD]
    assert folder.ctx.receipts[0]["rows"] == folder.ctx.ledgers["t"]["x.csv"]["rows"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\n1\nx\n", "x.csv, line 3: column 'a': 'x'"), ("a,b\n1,2\n3\n", "x.csv, line 3: 1 fields where the first row has 2")],
)
def test_without_the_policy_the_file_fails_and_says_the_way_out(folder: Any, text: str, message: str) -> None:
    folder.write("x.csv", text)
    with pytest.raises(SourceError) as e:
        reading(folder)
    assert e.value.message.startswith(message)
    assert "on_bad_row: reject" in (e.value.hint or "")
    assert e.value.where["line"] == 3
    assert not folder.ctx.units


def test_new_columns_and_misfits_of_a_schema_that_rejects(folder: Any) -> None:
    folder.write("x.csv", "a,new,b\n1,,x\n2,here,y\nz,,q\n")
    strict = Tbl(
        "t", (Column("a", parse_type("int")), Column("b", parse_type("str"))), schema="reject", properties={"path": "*.csv"}
    )
    assert folder.ctx.run(folder.operator.files(strict)) == [{"a": 1, "b": "x"}]
    assert [(b["line"], b["column"], b["reason"]) for b in folder.ctx.rejects] == [
        (3, "new", "column 'new' is new (schema: reject)"),
        (4, "a", "column 'a': 'z' (str) does not fit int"),
    ]


cells = st.sampled_from(["", "1", "42", "x", "a b", "-7"])


@given(st.lists(st.lists(cells, min_size=1, max_size=3), max_size=30), st.integers(4, 40))
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_set_aside_are_all_lines(
    folder: Any, small_blocks: Callable[[int], None], lines: list[list[str]], size: int
) -> None:
    small_blocks(size)
    folder.ctx = FakeContext()
    lines = [fields for fields in lines if fields != [""]]  # that is a blank line
    folder.write("x.csv", "a,b\n" + "".join(f"{','.join(fields)}\n" for fields in lines))
    kept = reading(folder, on_bad_row="reject")
    good = [(i, f) for i, f in enumerate(lines) if len(f) == 2 and f[0].lstrip("-").isdigit() | (f[0] == "")]
    assert [(r["a"], r["b"]) for r in kept] == [(int(a) if a else None, b) for _, (a, b) in good]
    assert [b["line"] for b in folder.ctx.rejects] == [i + 2 for i in range(len(lines)) if i not in dict(good)]


def test_a_file_of_nothing_but_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n\n" + "bad\n" * 700)
    home = str(tmp_path / "home")
    tbls = {"t": {"path": "*.csv", "columns": {"n": "int"}, "on_bad_row": "reject"}}
    for rejects in (700, 0):
        cnxns = {"default": {"path": str(tmp_path)}}
        result = anchovies.run(CsvDownloader, id="a", user="me", datastore=home, tbls=tbls, cnxns=cnxns)
        assert result.tables[0].rejected == rejects
    assert [r["line"] for r in rejected(LocalStore(home), Home("me", "a"))] == list(range(2, 702))


@pytest.mark.parametrize("autodiscover", [True, False])
def test_the_first_files_are_the_schema_that_later_ones_are_held_against(tmp_path: Path, autodiscover: bool) -> None:
    source, home = tmp_path / "in", str(tmp_path / "home")
    source.mkdir()
    (source / "1.csv").write_text("nr,mail,qty\n1,a@x,5\n")
    tbls = {
        "t": {
            "path": "*.csv", "schema": "reject", "autodiscover": autodiscover, "rename": {"nr": "id"},
            "mask": {"mail": "redact"}, "exclude": "junk",
        }
    }  # fmt: skip
    me = {"id": "a", "user": "me", "datastore": home, "tbls": tbls, "cnxns": {"default": {"path": str(source)}}}
    anchovies.run(CsvDownloader, **me)
    (source / "2.csv").write_text("new,nr,mail,junk,qty\n,2,b@x,j,6\nhere,3,c@x,j,7\n,4,d@x,j,many\n")
    result = anchovies.run(CsvDownloader, **me)
    found = [(r["file"], r["line"], r["column"], r["row"]) for r in rejected(LocalStore(home), Home("me", "a"))]
    new = ("2.csv", 3, "new", {"new": "here", "id": "3", "mail": "***", "qty": "7"})
    many = ("2.csv", 4, "qty", {"new": "", "id": "4", "mail": "***", "qty": "many"})
    assert found == ([new, many] if autodiscover else [new])  # without types everything is text, and fits
    assert (result.tables[0].rows, result.tables[0].kept) == (3, 3 - len(found))


def test_from_files_to_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files with bad lines, one of them repaired later: what is kept, what is set aside, and what the database holds."""
    source, home = tmp_path / "in", str(tmp_path / "home")
    source.mkdir()
    (source / "1.csv").write_text("id,mail,qty\n1,a@x,5\n2,b@x\n3,c@x,lots\n")
    (source / "2.csv").write_text("id,mail,qty\n4,d@x,7\n")
    tbls = {
        "t": {
            "path": "*.csv", "unique_by": "id", "columns": {"id": "int", "qty": "int"}, "on_bad_row": "reject",
            "rename": {"mail": "email"}, "mask": {"email": "sha256"},
        }
    }  # fmt: skip
    monkeypatch.setenv("ACHVY_MASK_KEY", "a key that is long enough")
    me = {"user": "me", "datastore": home, "tbls": tbls}
    cnxns = {"default": {"path": str(source)}}
    result = anchovies.run(CsvDownloader, id="a", cnxns=cnxns, **me)
    assert [(t.rows, t.kept, t.rejected) for t in result.tables] == [(4, 2, 2)]
    found = list(rejected(LocalStore(home), Home("me", "a")))
    assert [(r["file"], r["line"], r["column"], r["row"]) for r in found] == [
        ("1.csv", 3, None, None),  # a line of text: nobody can tell which of its fields is masked
        ("1.csv", 4, "qty", {"id": "3", "email": "***", "qty": "lots"}),
    ]
    (source / "1.csv").write_text("id,mail,qty\n1,a@x,5\n2,b@x,6\n3,c@x,8\n")
    anchovies.run(CsvDownloader, id="a", cnxns=cnxns, **me)
    database = {"db": {"url": f"sqlite:///{tmp_path}/x.db"}}
    loaded = anchovies.run("sql.Uploader", id="up", upstream=["a"], cnxns=database, **me)
    assert loaded.tables[0].counts["inserted"] == 4
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        rows = list(db.execute("SELECT id, qty, length(email) FROM a__me__t WHERE _del IS NULL ORDER BY 1"))
    assert rows == [(1, 5, 64), (2, 6, 64), (3, 8, 64), (4, 7, 64)]
    assert Verifier(LocalStore(home), deep=True).verify(Home("me", "a")).ok
