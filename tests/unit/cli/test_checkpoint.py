"""`anchovy checkpoint` where tables of one key stand at different values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.cli.main import main
from anchovies.sdk import Downloader, Stream, context, sink, source

Call = Callable[..., tuple[int, str]]


class Shop(Downloader):
    upto = 4

    @source("orders")
    def orders(self) -> Any:
        at = context().checkpoint("at")
        for n in range(at.get(0), self.upto):
            yield {"n": n}
            at.set(n + 1)

    @source("lines")
    @sink("orders", streaming=True)
    def lines(self, stream: Stream) -> Any:
        yield from stream


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """A shop whose lines stand at 6 and whose orders at 4; then what is typed after `anchovy checkpoint`, and what it prints."""
    where = {"id": "shop", "user": "me", "datastore": str(tmp_path)}
    anchovies.run(Shop, **where)
    anchovies.run(type("More", (Shop,), {"upto": 6}), enabled=["lines"], **where)

    def typed(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["checkpoint", *words, "-i", "shop", "-u", "me", "--datastore", str(tmp_path)])
        done = capsys.readouterr()
        return int(end.value.code or 0), done.out + done.err

    return typed


def test_all_values_are_listed(call: Call) -> None:
    others = [{"value": 4, "tbls": ["orders"]}]
    assert json.loads(call("list", "--json")[1]) == {"at": {"value": 6, "tbls": ["lines"], "others": others}}
    lines = [line.split() for line in call("list")[1].splitlines()]
    assert [x for x in lines if x[:1] == ["at"]] == [["at", "6", "lines"], ["at", "4", "orders"]]
    assert [json.loads(call("get", "at", *t)[1]) for t in ((), ("--tbl", "lines"), ("--tbl", "orders"))] == [6, 6, 4]
    assert "table 'x' has no value of 'at'" in call("get", "at", "--tbl", "x")[1]


def test_edits_of_one_table_and_of_all(call: Call) -> None:
    assert '{"lines": 6, "orders": 4}' in call("set", "at", "1", "--tbl", "orders")[1]
    assert json.loads(call("list", "--json")[1])["at"]["others"] == [{"value": 6, "tbls": ["lines"]}]
    assert "nothing to change" in call("set", "at", "1", "--tbl", "orders")[1]
    assert "is now" in call("set", "at", "2")[1]
    assert json.loads(call("list", "--json")[1]) == {"at": {"value": 2, "tbls": ["lines", "orders"]}}
    call("delete", "at", "--tbl", "lines")
    assert json.loads(call("list", "--json")[1]) == {"at": {"value": 2, "tbls": ["orders"]}}
    assert "nothing to change" in call("delete", "at", "--tbl", "lines")[1]
    call("rewind", "--to", "2", "--rows-again")
    assert json.loads(call("get", "at", "--tbl", "orders")[1]) == 4
    values = [(h["slot"], h["value"]) for h in json.loads(call("history", "--json")[1])]
    assert values == [(1, 4), (2, 6), (3, 1), (4, 2), (5, "(deleted for lines)"), (6, {"lines": 6, "orders": 4})]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "at", "1", "--tbl", "ordres"), "there is no table 'ordres'\nhint: did you mean 'orders'?"),
        (("delete", "at", "--tbl", "q"), "there is no table 'q'\nhint: tables: lines, orders"),
        (("delete", "--all", "--tbl", "orders"), "say what to forget"),
    ],
)
def test_edits_that_cannot_be(call: Call, words: tuple[str, ...], said: str) -> None:
    code, told = call(*words)
    assert (code, said in told) == (2, True), told
