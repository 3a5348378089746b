"""Whole runs with the datastore behind a wire that breaks: a commit cut at every place, and each connection of a run cut once.

A lost answer is resolved by looking at the slot, so no run takes its own commit for somebody else's, and each row is there once.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import anchovies
from anchovies.core.errors import AnchovyError
from anchovies.sdk import Downloader, context, source
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.testing import oracle
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.proxy import Proxy, Rule

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(200)]

N, STEP = 9, 4
TIMEOUT = "0.5"
#: bytes of a commit's request behind its word, and of the answer
SENT, HEARD = range(0, 1500, 190), range(0, 450, 90)
_numbers = count()


class Counting(Downloader):
    @source("ints")
    def ints(self, **kwds: Any) -> Iterator[dict[str, int]]:
        done = context().checkpoint("ints")
        for i in range(done.get(0) + 1, N + 1):
            yield {"i": i}
            if i % 3 == 0:
                done.set(i)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    if why := missing(request.param):
        pytest.skip(why)
    with bucket(request.param) as running:
        yield running


@dataclass
class World:
    """A datastore of its own in the bucket, a database, and one round of anchovies after another."""

    there: Bucket
    file: Path
    patch: pytest.MonkeyPatch

    def word(self, anchovy: str) -> bytes:
        """What a commit of an anchovy begins with, on the wire."""
        path = f"{urlsplit(self.there.endpoint).path}/{self.there.url.partition('://')[2]}"
        mark = "$" if self.there.url.startswith("az") else "%24"
        return f"PUT {path}/t/{anchovy}/{mark}log/log/".encode()

    def round(self, endpoint: str) -> list[AnchovyError]:
        """A download and an upload; what went wrong."""
        for name, value in self.there.through(endpoint).env.items():
            self.patch.setenv(name, value)
        self.patch.setenv("ACHVY_CNXN__DATASTORE__TIMEOUT", TIMEOUT)
        wrong: list[AnchovyError] = []
        cnxns = {"db": {"url": f"sqlite:///{self.file}"}}
        runs: tuple[tuple[Any, dict[str, Any]], ...] = (
            (Counting, {"id": "a", "commit_bytes": 1, "tbls": {"ints": {"write": "append"}}}),
            ("sql.Uploader", {"id": "up", "upstream": ["a"], "upstream_may_be_missing": True}),
        )
        for operator, more in runs:
            try:
                anchovies.run(operator, user="t", datastore=self.there.url, cnxns=cnxns, **more)
            except AnchovyError as e:
                wrong.append(e)
        return wrong

    def broken(self, rule: Rule) -> tuple[bool, list[AnchovyError]]:
        """A round through a proxy: whether the rule was met, and what went wrong. Then an undisturbed one makes it whole."""
        host = urlsplit(self.there.endpoint)
        with Proxy(self.there.port, rules=[rule]) as proxy:
            wrong = self.round(f"http://127.0.0.1:{proxy.port}")
        assert not self.round(f"http://{host.netloc}"), f"{rule}: the next run does not end well"
        self.check(rule)
        return bool(proxy.fired), wrong

    def check(self, rule: Rule) -> None:
        with closing(open_store(self.there.url, self.there.env)) as store:
            oracle.check_counted(oracle.in_log(store, Home("t", "a"))["ints"], N, f"{rule}, the log")
        with closing(sqlite3.connect(self.file)) as lite:
            rows = [r[0] for r in lite.execute("SELECT i FROM a__t__ints ORDER BY 1")]
        assert rows == list(range(1, N + 1)), f"{rule}, the database: {rows}"


@pytest.fixture
def world(server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], World]:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)

    def make() -> World:
        name = f"wire{next(_numbers)}"
        return World(server.below(name), tmp_path / f"{name}.sqlite", monkeypatch)

    return make


def whole_commit(world: Callable[[], World], who: str, places: range, how: dict[str, Any]) -> int:
    """Break a commit at one place after another, as far as it goes; how often it was broken."""
    for broken, at in enumerate(places):
        here = world()
        rule = Rule(at=at, after=here.word(who), **how)
        met, wrong = here.broken(rule)
        assert not wrong, f"{rule}: {wrong[0]}"
        if not met:
            return broken
    return len(places)


@pytest.mark.parametrize("do", ["reset", "cut"])
@pytest.mark.parametrize("who", ["a", "up"])
@pytest.mark.parametrize("server", ["s3", "az"], indirect=True, scope="module")
def test_a_commit_is_cut_at_every_place(world: Callable[[], World], who: str, do: str, notes: list[str]) -> None:
    """Once: the run itself finds out what happened, and goes on."""
    sent = whole_commit(world, who, SENT, {"do": do, "side": "up", "own": True})
    heard = whole_commit(world, who, HEARD, {"do": do, "side": "down"})
    assert sent > 3 and heard > 1
    notes.append(f"commits of {who} over the wire, {do}: {sent} cut as they were sent, {heard} as they were answered, all once")


@pytest.mark.parametrize("server", ["s3", "az"], indirect=True, scope="module")
def test_no_commit_is_ever_answered(world: Callable[[], World]) -> None:
    """Each lands, each is found by looking."""
    here = world()
    met, wrong = here.broken(Rule("cut", at=0, after=here.word("a"), times=None))
    assert met and not wrong


@pytest.mark.parametrize("server", ["s3", "az"], indirect=True, scope="module")
def test_no_commit_is_ever_heard(world: Callable[[], World]) -> None:
    here = world()
    met, wrong = here.broken(Rule("cut", "up", at=300, after=here.word("a"), own=True, times=None))
    assert met and [type(e).__name__ for e in wrong] == ["CommitUnknown"]
    assert "nothing is lost" in str(wrong[0].hint)


@pytest.mark.parametrize("side", ["up", "down"])
@pytest.mark.parametrize("server", ["s3", "az"], indirect=True, scope="module")
def test_a_commit_stalls(world: Callable[[], World], side: Any) -> None:
    here = world()
    met, wrong = here.broken(Rule("stall", side, at=0, after=here.word("a"), own=side == "up"))
    assert met and not wrong


@pytest.mark.parametrize(("do", "side", "at"), [("reset", "up", 10), ("cut", "down", 0)])
@pytest.mark.parametrize("server", ["s3"], indirect=True, scope="module")
def test_connections_of_a_run_are_cut(
    world: Callable[[], World], seed: int, do: Any, side: Any, at: int, notes: list[str]
) -> None:
    """moto's server takes one request a connection, so this is one request after another; every fourth, from where chance says."""
    met, number, cut, failed = True, random.Random(seed).randint(1, STEP), 0, 0
    while met:
        met, wrong = world().broken(Rule(do, side, at=at, connection=number))
        failed += bool(wrong)
        cut += met
        number += STEP
    assert cut > 20 // STEP
    notes.append(f"S3: {cut} connections of a run, {do} {side} at {at}: {failed} runs failed, all whole after the next")
