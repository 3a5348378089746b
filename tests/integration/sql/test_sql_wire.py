"""PostgreSQL behind a wire that breaks at an exact byte. The position row decides what was done, and each row is there once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT, STR
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.sdk import Position, RetryableError
from anchovies.testing.postgres import missing, postgres
from anchovies.testing.proxy import Proxy, Rule
from anchovies.testing.sql import Unit, loads

pytestmark = [
    pytest.mark.server,
    # psycopg's own: the connection object of a session that broke says so when it is collected
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]

TBL = Tbl("t", (Column("k", INT), Column("v", STR)), unique_by=("k",))
HISTORY = [[Unit(100, [{"k": i, "v": "old"} for i in range(20)])], [Unit(200, [{"k": i, "v": "new"} for i in range(10, 30)])]]
#: what the client sends: Q, four bytes of length, the statement, NUL; and what an answer to COMMIT is: C, length, tag, then Z
COMMIT = b"COMMIT\0"
REPLY = len(b"C\0\0\0\x0bCOMMIT\0" + b"Z\0\0\0\x05I")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing("tcp"):
        pytest.skip(reason)
    with postgres("tcp") as url:
        yield url


@pytest.fixture
def direct(server: str) -> str:
    """The URL that does not go through the proxy; nothing of ours is in the database."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as pg:
        pg.execute("DROP SCHEMA IF EXISTS shop CASCADE")
    return server


@pytest.fixture
def wire(direct: str) -> Iterator[Proxy]:
    with Proxy(urlsplit(direct).port or 0) as proxy:
        yield proxy


@contextmanager
def uploader(url: str) -> Iterator[Uploader]:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=url)}
    try:
        yield operator
    finally:
        operator._db.ensure_closed()


def through(proxy: Proxy) -> str:
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"


def position(url: str, target: Any) -> Position:
    with uploader(url) as operator:
        return operator.position(target) or Position()


def loaded(url: str, number: int) -> Any:
    """The load number `number`; those before it are in the database."""
    both = loads(TBL, HISTORY, (1,))
    with uploader(url) as operator:
        for load in both[:number]:
            operator.load(load)
    return both[number]


def go_on(url: str, direct: str) -> None:
    """What an engine does next: ask where the target stands, load the rest. Then each row is there, once."""
    with uploader(url) as operator:
        for load in loads(TBL, HISTORY, (1,)):
            if (operator.position(load.target) or Position()) == load.start:
                operator.load(load)
    import psycopg

    with psycopg.connect(direct) as pg:
        got = pg.execute("SELECT k, v, _seq, _del FROM shop.t ORDER BY _seq").fetchall()
    old = [(i, "old", 100 + i, 190 + i if i >= 10 else None) for i in range(20)]
    assert got == [*old, *((i, "new", 190 + i, None) for i in range(10, 30))]


def breaks(proxy: Proxy, load: Any) -> RetryableError:
    """The load meets the proxy's rules, and says that it may be done again, and where it failed."""
    with uploader(through(proxy)) as operator, pytest.raises(RetryableError) as caught:
        operator.load(load)
    assert proxy.fired, "the rule was never met"
    assert "PostgreSQL" in str(caught.value) and "127.0.0.1" in str(caught.value)
    return caught.value


def bytes_of(size: int) -> list[Any]:
    """Every byte; `make test` is content with some."""
    return [at if at in (0, 1, size // 2, size - 1) else pytest.param(at, marks=pytest.mark.slow) for at in range(size)]


@pytest.mark.parametrize("do", ["reset", pytest.param("cut", marks=pytest.mark.slow)])
@pytest.mark.parametrize("at", bytes_of(REPLY))
@pytest.mark.parametrize("number", [0, 1])
def test_the_answer_to_commit_is_cut(wire: Proxy, direct: str, number: int, at: int, do: Any) -> None:
    """The server has committed; the client hears `at` bytes of that."""
    load = loaded(direct, number)
    # a first load makes the table of positions in a transaction of its own; a fresh one begins with that
    wire.rules = [Rule(do, "down", at, after=COMMIT, nth=2 - number)]
    breaks(wire, load)
    assert position(direct, load.target) == load.end, "it was committed"
    go_on(through(wire), direct)


@pytest.mark.parametrize("at", bytes_of(len(COMMIT) + 5))
@pytest.mark.parametrize("number", [0, 1])
def test_commit_itself_is_cut(wire: Proxy, direct: str, number: int, at: int) -> None:
    """The server hears `at` bytes of COMMIT, which is not enough."""
    load = loaded(direct, number)
    # the position is touched when it is claimed, and moved as the last statement before COMMIT
    wire.rules = [Rule("reset", "up", at, after=b"UPDATE 1\0", nth=2)]
    breaks(wire, load)
    assert position(direct, load.target) == load.start, "it was not committed"
    go_on(through(wire), direct)


@pytest.mark.parametrize("do", ["reset", "cut", "half-close"])
@pytest.mark.parametrize("side", ["up", "down"])
def test_the_wire_breaks_every_now_and_then(wire: Proxy, direct: str, side: Any, do: Any) -> None:
    """At byte 0, 150, 300, … of the conversation, from the greeting on, until a whole load passes."""
    load, broken = loaded(direct, 1), 0
    for at in range(0, 1_000_000, 150):
        wire.rules = [Rule(do, side, at)]
        fired = len(wire.fired)
        with uploader(through(wire)) as operator:
            try:
                operator.load(load)
                break
            except RetryableError as e:
                assert "127.0.0.1" in str(e)
                broken += 1
        assert len(wire.fired) == fired + 1
        if position(direct, load.target) == load.end:
            break  # what was cut is the goodbye
    assert broken >= 5
    go_on(through(wire), direct)


def test_nobody_listens(wire: Proxy, direct: str) -> None:
    load = loaded(direct, 0)
    wire.refuse()
    with uploader(through(wire)) as operator:
        with pytest.raises(RetryableError, match=r"the PostgreSQL server at 127\.0\.0\.1 does not answer") as caught:
            operator.load(load)
        assert "is it running" in str(caught.value.hint)
        wire.admit()
        operator.load(load)
    go_on(through(wire), direct)


def test_a_slow_wire_is_only_slow(wire: Proxy, direct: str) -> None:
    load = loaded(direct, 0)
    wire.rules = [Rule("throttle", "up", 500, rate=20_000), Rule("stall", "down", 900, seconds=0.5)]
    with uploader(through(wire)) as operator:
        operator.load(load)
    assert sorted(do for do, _ in wire.fired) == ["stall", "throttle"]
    go_on(through(wire), direct)


COUNT = """
from anchovies.sdk import Downloader, context, source

class Ints(Downloader):
    @source("ints")
    def ints(self, **kwds):
        done = context().checkpoint("ints")
        yield from ({"i": i} for i in range(done.get(0) + 1, 101))
        done.set(100)
"""


@pytest.mark.parametrize("side", ["up", "down"])
def test_a_server_that_says_nothing_any_more(wire: Proxy, direct: str, tmp_path: Path, side: Any) -> None:
    """Neither the driver nor the kernel ends that: the execution timeout does. The next run goes on."""
    import psycopg

    (tmp_path / "count.py").write_text(COUNT)
    with psycopg.connect(direct, autocommit=True) as pg:
        pg.execute("DROP SCHEMA IF EXISTS count__t CASCADE")
    start = [sys.executable, "-m", "anchovies.cli.main", "start", "--user", "t"]
    env = {
        "ACHVY_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "ACHVY_CNXN__DB__URL": through(wire),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*start, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    assert run("-op", "./count.py:Ints", "-i", "count").returncode == 0
    wire.rules = [Rule("stall", side, 600)]
    began = time.monotonic()
    upload = ("-op", "sql.Uploader", "-i", "wh", "-U", "count")
    stalled = run(*upload, "-t", "2", "--grace", "1")
    assert stalled.returncode == 3, stalled.stdout + stalled.stderr
    assert time.monotonic() - began < 30 and wire.fired
    done = run(*upload)
    assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(direct) as pg:
        assert pg.execute("SELECT count(*), count(DISTINCT i), max(i) FROM count__t.ints").fetchone() == (100, 100, 100)
