"""`anchovy rejects`: what could not be kept, read from where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import anchovies
from anchovies.cli.main import run
from anchovies.sdk import Downloader, context, source


class Bad(Downloader):
    @source("t")
    def t(self):
        yield {"n": "x"}
        context().reject("a;b", "too short", file="f.csv", line=1200)
        yield {"n": 2}

    @source("u")
    def u(self):
        yield {"n": 1}


def test_rejects_are_shown_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tbls = {"t": {"columns": {"n": "int"}, "on_bad_row": "reject"}}
    me = ["-i", "a", "-u", "me", "--datastore", str(tmp_path)]
    assert run(["rejects", *me]) == 2
    assert "has kept nothing" in capsys.readouterr().err
    anchovies.run(Bad, id="a", user="me", datastore=str(tmp_path), tbls=tbls)
    assert run(["rejects", *me]) == 0
    first = """t column 'n': 'x' (str) does not fit int\n  {"n": "x"}\n"""
    last = """t f.csv, line 1,200: too short\n  "a;b"\n"""
    assert capsys.readouterr().out == first + last
    assert run(["rejects", *me, "-n", "1"]) == 0
    assert capsys.readouterr() == (last, "the last 1 of 2 (-n 0 shows all)\n")
    assert run(["rejects", *me, "-e", "u"]) == 0
    assert capsys.readouterr().out == "no rejects\n"
    assert run(["rejects", *me, "-n", "0", "--json"]) == 0
    assert [r["reason"] for r in json.loads(capsys.readouterr().out)] == ["column 'n': 'x' (str) does not fit int", "too short"]
    assert run(["rejects", *me, "-e", "nope"]) == 2
