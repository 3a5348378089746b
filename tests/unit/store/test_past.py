"""What a log came to after any of its slots, whatever snapshots and segments lie beside it."""

from __future__ import annotations

import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.errors import ConfigError
from anchovies.core.ids import SystemIds
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.past import past
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, LedgerChange, Note, Writer

HOME = Home("me", "a")


def change(n: int) -> Change:
    file = DataFile("t", f"me/a/data/t/0-00000001/{n}.parquet", 1, n, "", [], [])
    ledger = LedgerChange(put={str(n): n}, delete=[str(n - 2)])
    return Change(files=[file], checkpoints=Checkpoints(set={"k": CheckpointValue(value=n)}), ledgers={"t": ledger})


@pytest.fixture
def log() -> Log:
    """Five commits, and a snapshot of the last."""
    writer = Writer("h", 1, "s", 1, "0")
    log = Log(MemoryStore("past"), HOME, clock=SystemClock(), ids=SystemIds(), writer=writer)
    log.load()
    for n in range(1, 6):
        log.append(change(n))
    assert log.finish()
    return log


def test_every_slot_as_it_was(log: Log) -> None:
    for n in range(6):
        found = past(log._store, HOME, n)
        assert found.then.slot == n
        assert {k: v.value for k, v in found.then.checkpoints.items()} == ({"k": n} if n else {})
        assert {k: dict(v) for k, v in found.then.ledgers.items()} == ({"t": {str(i): i for i in (n - 1, n) if i}} if n else {})
        assert [f.rows for f in found.files.get("t", [])] == list(range(1, n + 1))
        assert found.now.slot == 5


def test_what_was_retired_by_then_is_not_live_and_what_came_later_is(log: Log) -> None:
    log.retire({"t": 3}, Note(who="x", why="y"))
    assert [f.rows for f in past(log._store, HOME, 5).files["t"]] == [1, 2, 3, 4, 5]
    assert past(log._store, HOME, 5).now.retired == {"t": 3}
    assert [f.rows for f in past(log._store, HOME, 6).files["t"]] == [4, 5]


def test_a_slot_that_is_not_there(log: Log) -> None:
    with pytest.raises(ConfigError, match="no slot 6") as e:
        past(log._store, HOME, 6)
    assert "from 1 to 5" in str(e.value.hint)
