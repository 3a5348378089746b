"""What the tests of the log share: a clock that is told the time, and sessions of one anchovy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, Writer


class FakeClock:
    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000
        self.slept = 0.0

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1_000_000

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.us += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home() -> Home:
    return Home("prod", "sales")


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def new_log(store: MemoryStore, clock: FakeClock, home: Home) -> Callable[..., Log]:
    """`new_log(session='s', store=…, lane=0, workers=1)`: a session that has loaded the log."""
    count = iter(range(1, 1_000_000))

    def make(session: str = "s", on: Store | None = None, load: bool = True, **worker: int) -> Log:
        ids = SystemIds(next(count))
        writer = Writer(host="host", pid=1, session=session, batch=1, version="0")
        log = Log(on or store, home, clock=clock, ids=ids, writer=writer, retry=Retry(clock, ids, attempts=4), **worker)
        if load:
            log.load()
        return log

    return make


@pytest.fixture
def change() -> Callable[..., Change]:
    """`change(rows, n=…)`: a change of one file and one checkpoint `n`."""

    def make(rows: int = 3, n: object = 1, key: str = "n") -> Change:
        file = DataFile(table="t", path="data/t/x", size=10, rows=rows, sha256="0" * 64, schema=[("a", "int")], cuts=[0])
        return Change(files=[file], checkpoints=Checkpoints(set={key: CheckpointValue(n, ["t"])}))

    return make
