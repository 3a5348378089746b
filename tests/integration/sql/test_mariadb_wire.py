"""MariaDB behind a wire that breaks at an exact byte. The position row decides what was done, and each row is there once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pymysql
import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, STR
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.sdk import AnchovyError, Position, RetryableError
from anchovies.testing.mariadb import mariadb, missing
from anchovies.testing.proxy import Proxy, Rule
from anchovies.testing.sql import Unit, loads

pytestmark = pytest.mark.server

TBL = Tbl("t", (Column("k", INT), Column("v", STR)), unique_by=("k",))
HISTORY = [[Unit(100, [{"k": i, "v": "old"} for i in range(20)])], [Unit(200, [{"k": i, "v": "new"} for i in range(10, 30)])]]
OLD = [(i, "old", 100 + i, 190 + i if i >= 10 else None) for i in range(20)]
WHOLE = [*OLD, *((i, "new", 190 + i, None) for i in range(10, 30))]
#: what the client sends: the length, a number, 3, the statement; and what an answer is: the length, a number, 7 bytes
STATEMENT = b"\x03COMMIT"  # with its 3: the driver also says AUTOCOMMIT
ASKED, ANSWERED = 4 + len(STATEMENT), 4 + 7


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    if reason := missing():
        pytest.skip(reason)
    with mariadb() as port:
        yield port


def ask(port: int, sql: str) -> list[Any]:
    with closing(pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)) as db, db.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


@pytest.fixture
def wire(server: int) -> Iterator[Proxy]:
    """The first load is in the database."""
    ask(server, "DROP DATABASE IF EXISTS shop")
    with uploader(server) as operator:
        operator.load(loads(TBL, HISTORY, (1,))[0])
    with Proxy(server) as proxy:
        yield proxy


@contextmanager
def uploader(port: int) -> Iterator[Uploader]:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=f"mysql://root@127.0.0.1:{port}/mysql")}
    try:
        yield operator
    finally:
        operator._db.ensure_closed()


def second(port: int) -> None:
    with uploader(port) as operator:
        operator.load(loads(TBL, HISTORY, (1,))[1])


def stands(port: int) -> int:
    with uploader(port) as operator:
        return (operator.position(loads(TBL, HISTORY)[0].target) or Position()).slot


def found(port: int) -> list[Any]:
    return ask(port, "SELECT k, v, _seq, _del FROM shop.t ORDER BY _seq")


def go_on(port: int) -> None:
    """What an engine does next: ask where the target stands, load the rest. Then each row is there, once."""
    if stands(port) == 1:
        second(port)
    assert (stands(port), found(port)) == (2, WHOLE)


def breaks(proxy: Proxy) -> None:
    """The load meets the proxy's rules, and says that it may be done again, and where it failed."""
    with pytest.raises(RetryableError) as caught:
        second(proxy.port)
    assert proxy.fired, "the rule was never met"
    assert "MariaDB" in str(caught.value) and "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("do", ["reset", "cut", "half-close"])
@pytest.mark.parametrize("at", range(ANSWERED))
def test_the_answer_to_commit_is_cut(wire: Proxy, server: int, at: int, do: Any) -> None:
    # the first COMMIT of a load sees only whether the table of positions is there: what counts follows the rows
    wire.rules = [Rule(do, "down", at, after=STATEMENT)]
    breaks(wire)
    assert stands(server) == 2, "it was committed, though the client cannot know"
    go_on(server)


@pytest.mark.parametrize("at", range(ASKED))
def test_commit_itself_is_cut(wire: Proxy, server: int, at: int) -> None:
    # the last thing before it: the position moves, and its answer says in words how many rows matched
    wire.rules = [Rule("reset", "up", at, after=b"Rows matched: 1  Changed: 1")]
    breaks(wire)
    assert stands(server) == 1, "it was not committed"
    go_on(server)


@pytest.mark.parametrize("do", ["stall", "throttle"])
def test_a_slow_wire_is_only_slow(wire: Proxy, server: int, do: Any) -> None:
    wire.rules = [Rule(do, "down", 3, after=STATEMENT, seconds=0.3, rate=200)]
    second(wire.port)
    assert [what for what, _ in wire.fired] == [do]
    go_on(server)


@pytest.mark.parametrize("side", ["up", "down"])
def test_the_wire_breaks_every_now_and_then(wire: Proxy, server: int, side: Any) -> None:
    """At byte 0, 150, 300, … of the conversation, from the greeting on, until a whole load passes."""
    broken = 0
    for at in range(0, 100_000, 150):
        wire.rules = [Rule("reset", side, at)]
        try:
            second(wire.port)
            break
        except AnchovyError as e:
            broken += 1
            assert isinstance(e, RetryableError), e
        if stands(server) == 2:  # the rest of the conversation comes after the commit
            break
        assert found(server) == [(*row[:3], None) for row in OLD], "all of it, or nothing"
    assert broken >= 5
    go_on(server)
