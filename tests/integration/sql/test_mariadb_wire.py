"""MariaDB behind a wire that breaks at an exact byte. There is no uploader for it yet: what is shown is that the proxy breaks its
conversations where it should, and that rows with their position in one transaction are there once, whatever the client heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest

from anchovies.testing.mariadb import mariadb, missing
from anchovies.testing.proxy import Proxy, Rule

pytestmark = pytest.mark.server

#: what the client sends: the length, a number, 3, the statement; and what an answer is: the length, a number, 7 bytes
STATEMENT = b"\x03COMMIT"  # with its 3: the driver also says AUTOCOMMIT
ASKED, ANSWERED = 4 + len(STATEMENT), 4 + 7


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    if reason := missing():
        pytest.skip(reason)
    with mariadb() as port:
        with closing(connect(port, None)) as db:
            db.cursor().execute("CREATE DATABASE shop")
        yield port


def connect(port: int, database: str | None = "shop") -> Any:
    return pymysql.connect(host="127.0.0.1", port=port, user="root", database=database, connect_timeout=5, read_timeout=5)


@pytest.fixture
def wire(server: int) -> Iterator[Proxy]:
    with closing(connect(server)) as db:
        for sql in (
            "DROP TABLE IF EXISTS t, position",
            "CREATE TABLE t (k int) ENGINE=InnoDB",
            "CREATE TABLE position (slot int) ENGINE=InnoDB",
            "INSERT INTO position VALUES (0)",
        ):
            db.cursor().execute(sql)
        db.commit()
    with Proxy(server) as proxy:
        yield proxy


def load(port: int) -> None:
    """Rows and their position, in one transaction, if the position is still the old one."""
    db = connect(port)
    try:
        at = db.cursor()
        at.execute("SELECT slot FROM position FOR UPDATE")
        if at.fetchone() == (0,):
            at.execute("INSERT INTO t VALUES (1), (2), (3)")
            at.execute("UPDATE position SET slot = 7")
            at.execute("COMMIT")
    finally:
        db._force_close()


def found(port: int) -> tuple[int, int]:
    """(position, rows)"""
    with closing(connect(port)) as db:
        at = db.cursor()
        at.execute("SELECT (SELECT slot FROM position), (SELECT count(*) FROM t)")
        slot, rows = at.fetchone()
        return slot, rows


@pytest.mark.parametrize("do", ["reset", "cut", "half-close"])
@pytest.mark.parametrize("at", range(ANSWERED))
def test_the_answer_to_commit_is_cut(wire: Proxy, server: int, at: int, do: Any) -> None:
    wire.rules = [Rule(do, "down", at, after=STATEMENT)]
    with pytest.raises((pymysql.err.OperationalError, pymysql.err.InterfaceError)):
        load(wire.port)
    assert wire.fired and found(server) == (7, 3), "it was committed, though the client cannot know"
    load(wire.port)
    assert found(server) == (7, 3)


@pytest.mark.parametrize("at", range(ASKED))
def test_commit_itself_is_cut(wire: Proxy, server: int, at: int) -> None:
    # the answer to UPDATE says how many rows matched, in words
    wire.rules = [Rule("reset", "up", at, after=b"Rows matched: 1")]
    with pytest.raises((pymysql.err.OperationalError, pymysql.err.InterfaceError)):
        load(wire.port)
    assert wire.fired and found(server) == (0, 0), "it was not committed"
    load(wire.port)
    assert found(server) == (7, 3)


@pytest.mark.parametrize("do", ["stall", "throttle"])
def test_a_slow_wire_is_only_slow(wire: Proxy, server: int, do: Any) -> None:
    wire.rules = [Rule(do, "down", 3, after=STATEMENT, seconds=0.3, rate=200)]
    load(wire.port)
    assert [what for what, _ in wire.fired] == [do] and found(server) == (7, 3)


@pytest.mark.parametrize("side", ["up", "down"])
def test_the_wire_breaks_every_now_and_then(wire: Proxy, server: int, side: Any) -> None:
    """At byte 0, 20, 40, … of the conversation, from the greeting on, until a whole load passes."""
    broken = 0
    for at in range(0, 100_000, 20):
        wire.rules = [Rule("reset", side, at)]
        try:
            load(wire.port)
            break
        except pymysql.err.Error:
            broken += 1
        assert found(server) in ((0, 0), (7, 3)), "all of it, or nothing"
    assert broken >= 5 and found(server) == (7, 3)
