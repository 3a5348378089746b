"""What is wrong in a file is said with file, line and the way out; nothing of it is kept, and the other files are."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest

from anchovies.sdk import SourceError

BAD: list[tuple[str, bytes, dict[str, Any], str, str]] = [
    ("ragged", b"a,b\n1,2\n\n3,4\n5\n", {}, r"bad\.csv, line 5: 1 fields where the first row has 2", "delimiter"),
    ("ragged after a quoted newline", b'a,b\n1,"2\n\n2"\n5,6,7\n', {}, r"line 5: 3 fields", "quote: none"),
    ("unclosed", b'a,b\n1,2\n3,"4\n5,6\n', {}, r"bad\.csv, line 3: .*never closed", "quote: none"),
    ("unclosed in the header", b'a,"b\n1,2\n', {}, r"line 1: .*never closed", "quote: none"),
    ("twice", b"a,b,a\n1,2,3\n", {}, r"line 1: the header has the name 'a' twice", "header: false"),
    ("no name", b"a,,c\n1,2,3\n", {}, r"line 1: column 2 has no name", "header: false"),
    ("nul", b"a,b\n1,2\n3,\x004\n", {}, r"line 3: a NUL byte \(byte 10\)", "utf-16"),
    ("not utf-8", b"a,b\n1,2\n3,\xe9\n", {}, r"bad\.csv: byte 10 \(line 3\) is not utf-8", "encoding:"),
    ("not utf-8 in the header", b"a,\xe9\n1,2\n", {}, r"byte 2 \(line 1\) is not utf-8", "encoding:"),
    ("utf-16 unsaid", "a,b\n1,2\n".encode("utf-16"), {}, r"byte 0: this is UTF-16", "encoding: utf-16"),
    ("not ascii", b"a,b\n1,2\n3,\xe9\n", {"encoding": "ascii"}, r"byte 10 is not ascii", "encoding:"),
    ("half a character", "a,b\n1,é".encode("utf-16")[:-1], {"encoding": "utf-16"}, r"byte 14 is not utf-16", "encoding:"),
    ("misfit", b"n,b\n1,2\n\nx1,2\n", {"columns": {"n": "int"}}, r"bad\.csv, line 4: column 'n': 'x1'.* does not fit int", "str"),
    ("misfit, autodiscover", b"n\n1\nz\n", {"columns": {"n": "int"}, "autodiscover": True}, r"line 3: column 'n': 'z'", "str"),
    ("columns", b"1,2\n", {"columns": {"n": "int"}, "header": False}, r"line 1: 2 fields where `columns` has 1", "columns"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "given", "message", "hint"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_file(folder: Any, data: bytes, given: dict[str, Any], message: str, hint: str) -> None:
    folder.write("bad.csv", data)
    with pytest.raises(SourceError) as e:
        folder.read(**given)
    assert re.search(message, str(e.value)), str(e.value)
    assert hint in (e.value.hint or "")
    assert folder.ctx.rows == [] and "bad.csv" not in folder.ctx.ledgers["t"]


@pytest.mark.parametrize("block", [5, 1 << 20])
def test_the_others_are_kept(folder: Any, small_blocks: Any, block: int) -> None:
    small_blocks(block)
    for name in "acd":
        folder.write(f"{name}.csv", f"x\n{name}\n")
    folder.write("b.csv", "x\n1\n2\n3\n4\n5,6\n")
    folder.write("e.csv", "x,x\n")
    with pytest.raises(SourceError, match=r"2 of 5 files could not be read: b\.csv, line 6.*; e\.csv, line 1"):
        folder.read()
    assert [r["x"] for r in folder.ctx.rows] == ["a", "c", "d"]
    folder.write("b.csv", "x\nb\n")
    with pytest.raises(SourceError, match=r"^e\.csv, line 1"):
        folder.read()
    assert [r["x"] for r in folder.ctx.rows] == ["b"]


def test_a_row_that_never_ends_does_not_fill_the_memory(folder: Any, small_blocks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.plugins.files.blocks.MAX_ROW", 1000)
    small_blocks(100)
    folder.write("a.csv", 'x\n1\n"' + "y\n" * 1000)
    with pytest.raises(SourceError, match=r"a\.csv, line 3: .*longer than"):
        folder.read()
    assert folder.ctx.bytes_read < 1500


PACKED = gzip.compress(b"x\n" + b"1\n" * 5000)
BROKEN = {
    "cut off": PACKED[:-9],
    "bad checksum": PACKED[:-8] + b"0000" + PACKED[-4:],
    "no gzip": b"x\n1\n",
    "garbage": PACKED + b"xxxx",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_bad_gzip(folder: Any, data: bytes) -> None:
    folder.write("a.csv.gz", data)
    with pytest.raises(SourceError, match=r"a\.csv\.gz: .*(gzip data break off|damaged gzip)"):
        folder.read("*.gz")
    assert folder.ctx.rows == []


def test_gzip_bomb(folder: Any) -> None:
    folder.write("a.csv.gz", gzip.compress(b"x\n" + b"1\n" * (20 << 20)))
    with pytest.raises(SourceError, match=r"a\.csv\.gz: unpacks to more than 300 times its size") as e:
        folder.read("*.gz")
    assert "gzip_max_ratio" in (e.value.hint or "")
    with pytest.raises(SourceError, match="unpacks to more than 9,999 bytes"):
        folder.read("*.gz", gzip_max_bytes=9999)


def test_no_permission(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a.csv", "x\n1\n")
    folder.write("b.csv", "x\n2\n")
    real = __import__("os").open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("a.csv"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(SourceError, match=r"a\.csv: Permission denied"):
        folder.read()
    assert folder.ctx.rows == [{"x": "2"}]
