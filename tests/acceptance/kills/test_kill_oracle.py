"""The oracle can fail: engines with one rule taken out lose rows or double them, and it says so."""

from __future__ import annotations

import signal

import pytest

from anchovies.sdk import AnchovyError

N = 60

#: What goes in front of the entry of a process: each breaks one rule, and dies where that hurts.
HEAD = """
import os, signal
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
UPLOADERS = {
    "the position moves in a second transaction": """
from anchovies.plugins.sql import position
def advance(db, *args):
    db.commit()
    die()
position.advance = advance
""",
    "the position moves before the rows are there": """
from anchovies.plugins.sql import loading, position
def rows(db, load, table):
    position.advance(db, load.target, load.start, load.end, None)
    db.commit()
    die()
loading._rows = rows
""",
}
DOWNLOADERS = {
    "checkpoints are committed before their rows": """
from anchovies.engine.services import Services
from anchovies.store.record import Change
Services.publish = lambda self, change, keys: (self.log.append(Change(checkpoints=change.checkpoints)), die())
""",
    "rows are committed before their checkpoints": """
from msgspec.structs import replace
from anchovies.engine.services import Services
from anchovies.store.record import Checkpoints
Services.publish = lambda self, change, keys: (self.log.append(replace(change, checkpoints=Checkpoints())), die())
""",
}
ZOMBIES = {
    "a session that lost its slot takes the next one": """
from anchovies.store.log import Log
Log._verdict = lambda self, *seen: None
""",
    "a slot is overwritten": """
from anchovies.store.local import LocalStore
LocalStore.create = LocalStore.put
""",
}


@pytest.fixture
def entry(world):  # type: ignore[no-untyped-def]
    """The entry of a process in which a rule is broken."""
    return lambda broken: HEAD + broken + world.ENTRY


@pytest.mark.slow
@pytest.mark.parametrize("broken", list(UPLOADERS))
@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_broken_uploader_is_caught(world, entry, kind: str, broken: str) -> None:  # type: ignore[no-untyped-def]
    run = world.download(n=N, task=N)
    assert run.wait() == 0, run.said
    picked = ["-e", "ints"]  # a table without a key: nothing but the position keeps it whole
    assert world.upload(kind, *picked, entry=entry(UPLOADERS[broken])).wait() == -signal.SIGKILL
    whole = world.upload(kind)
    assert whole.wait() == 0, whole.said
    world.check_log(N)
    with pytest.raises(AssertionError, match="ints"):
        world.check_database(kind, N)


@pytest.mark.slow
@pytest.mark.parametrize("broken", list(DOWNLOADERS))
def test_a_broken_downloader_is_caught(world, entry, broken: str) -> None:  # type: ignore[no-untyped-def]
    picked = ["-e", "ints"]
    assert world.download(*picked, n=N, entry=entry(DOWNLOADERS[broken])).wait() == -signal.SIGKILL
    whole = world.download(n=N, task=N)
    assert whole.wait() == 0, whole.said
    with pytest.raises(AssertionError, match="the log, ints"):
        world.check_log(N)


@pytest.mark.slow
@pytest.mark.parametrize("broken", list(ZOMBIES))
def test_a_log_that_does_not_fence_is_caught(world, until, entry, broken: str) -> None:  # type: ignore[no-untyped-def]
    zombie = world.download("-e", "ints", n=N, pace=0.1, step=10, lease=False, entry=entry(ZOMBIES[broken]))
    until(lambda: world.slots() > 0)
    zombie.stop()
    heir = world.download(n=N, task=N, step=4, lease=False)
    assert heir.wait() == 0, heir.said
    zombie.signal(signal.SIGCONT)
    zombie.wait()
    assert "TypeError" not in zombie.said  # the rule is broken, not the way this test breaks it
    with pytest.raises((AssertionError, AnchovyError)):
        world.check_log(N)
