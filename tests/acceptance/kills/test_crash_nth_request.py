"""The n-th request to the datastore fails, for every n until a run passes untouched: before its effect, after it, or its effect
comes later; once, or for all that follow. What comes next, undisturbed, makes it whole."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.core.errors import AnchovyError
from anchovies.sdk import Downloader, context, source
from anchovies.store.keys import Home
from anchovies.store.memory import MemoryStore
from anchovies.testing import oracle
from anchovies.testing.faults import FaultyStore, When

N = 9
FOR_EVER = 10**6
_names = itertools.count()


class Counting(Downloader):
    @source("ints")
    def ints(self, **kwds: Any) -> Iterator[dict[str, int]]:
        done = context().checkpoint("ints")
        for i in range(done.get(0) + 1, N + 1):
            yield {"i": i}
            if i % 3 == 0:
                done.set(i)


class World:
    """A datastore in memory, a database, and what one round of anchovies does to them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.name, self.patch = f"nth-{next(_names)}", patch
        self.file = folder / f"{self.name}.sqlite"
        self.store = MemoryStore.named(self.name)

    def round(self, store: Any) -> bool:
        """A download and an upload through `store`; whether both went well."""
        self.patch.setattr("anchovies.engine.api.open_store", lambda *args: store)
        well = True
        for operator, more in ((Counting, {"id": "a", "commit_bytes": 1}), ("sql.Uploader", {"id": "up", "upstream": ["a"]})):
            try:
                cnxns = {"db": {"url": f"sqlite:///{self.file}"}}
                tbls = {"ints": {"write": "append"}} if operator is Counting else None
                more |= {} if tbls is None else {"tbls": tbls}
                anchovies.run(operator, user="t", datastore=self.store.url, cnxns=cnxns, **more)
            except AnchovyError:
                well = False
        return well

    def check(self) -> None:
        found = oracle.in_log(self.store, Home("t", "a"))["ints"]
        oracle.check_counted(found, N, "the log")
        with closing(sqlite3.connect(self.file)) as lite:
            rows = [r[0] for r in lite.execute("SELECT i FROM a__t__ints ORDER BY 1")]
        assert rows == list(range(1, N + 1)), f"the database: {rows}"


def play(folder: Path, patch: pytest.MonkeyPatch, when: When, times: int, step: int) -> tuple[int, int]:
    """(rounds, rounds that failed); ends with the first that no fault came to."""
    failed = nth = 0
    hit = True
    while hit:
        world = World(folder, patch)
        faulty = FaultyStore(world.store, nth + 1, when, times)
        well = world.round(faulty)
        hit = faulty.hit
        assert well or hit
        failed += not well
        faulty.nth = 0
        for _ in range(2):  # what was late lands while the next one runs, or before it
            with suppress(AnchovyError):
                world.round(faulty)
        faulty.land()
        assert world.round(world.store), f"{when} at {nth + 1}: the next run does not end well"
        try:
            world.check()
        except AssertionError as e:
            raise AssertionError(f"{when} at request {nth + 1} ({faulty.ops[nth : nth + 1]}), {times} times: {e}") from e
        nth += step
    return nth // step, failed


@pytest.mark.parametrize("times", [1, FOR_EVER], ids=["once", "for-ever"])
@pytest.mark.parametrize("when", ["before", "after", "later"])
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow, id="every"), pytest.param(9, id="some")])
def test_the_nth_request_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: list[str], when: When, times: int, step: int
) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    rounds, failed = play(tmp_path, monkeypatch, when, times, step)
    assert rounds > 30 // step
    assert failed or times == 1
    notes.append(
        f"the n-th request, {when} {'once' if times == 1 else 'for ever'}: {rounds} rounds, {failed} failed runs, all whole"
    )
