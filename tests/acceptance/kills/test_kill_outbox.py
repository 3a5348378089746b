"""Files that are moved away at the source once they are kept: killed at any moment, none is moved too early, none is forgotten."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.schema import batch_to_rows
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader

SOURCE = '''
import os
import time
from pathlib import Path

import pyarrow as pa

from anchovies.sdk import Downloader, context, on_ack, source

PACE = float(os.environ.get("ORACLE_PACE", "0"))
INBOX, DONE = Path("inbox"), Path("done")


class Mover(Downloader):
    """No checkpoint and no ledger: that a file lies in the inbox is all that says that it is new."""

    @source("files")
    def files(self, **kwds):
        for path in sorted(INBOX.iterdir()):
            found = path.stat()
            yield pa.table({"name": [path.name], "text": [path.read_text()]})
            context().ack(f"{path.name}|{found.st_size}|{found.st_mtime_ns}")
            time.sleep(PACE)

    @on_ack
    def move(self, tokens, **kwds):
        for token in tokens:
            name, size, mtime = token.split("|")
            path = INBOX / name
            if not path.exists():
                continue
            found = path.stat()
            if (found.st_size, found.st_mtime_ns) == (int(size), int(mtime)):
                path.rename(DONE / f"{name}.{mtime}")
            time.sleep(PACE / 2)
'''

#: The rule taken out: the source is told before the commit.
TOO_EARLY = """
import os, signal
from anchovies.engine.services import Services
real = Services.publish
def publish(self, change, keys):
    if change.ack_pending:
        self.operator.move(change.ack_pending)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, change, keys)
Services.publish = publish
"""
#: And the other: a session hands out only what it has committed itself.
FORGETFUL = """
import os, signal
from anchovies.engine.batch import BatchRun
from anchovies.engine.outbox import Outbox
waiting = Outbox.waiting
Outbox.waiting = lambda self: waiting(self) if self.is_ours else []
real = BatchRun.acknowledge
def acknowledge(self):
    if self._s.commits and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    real(self)
BatchRun.acknowledge = acknowledge
"""


class Inbox:
    """What lies where, and what the log says."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.inbox, self.done = world.folder / "inbox", world.folder / "done"
        self.inbox.mkdir()
        self.done.mkdir()
        (world.folder / "mover.py").write_text(SOURCE)
        self.made: list[tuple[str, str]] = []

    def add(self, name: str) -> None:
        """A file, or another one of the same name; it appears at once."""
        text = f"{name} number {len(self.made)}"
        new = self.world.folder / "new"
        new.write_text(text)
        new.rename(self.inbox / name)
        self.made.append((name, text))

    def run(self, **more: Any) -> Any:
        return self.world.spawn("start", "-op", "./mover.py:Mover", "-i", "mover", "--commit-bytes", "1", **more)

    def kept(self) -> list[tuple[str, str]]:
        """(name, text) of every committed row."""
        store, reader = self.world.store, Reader(self.world.store, self.world.home("mover"))
        files = [f for r in reader.records(0, "") for f in r.change.files]
        return [(row["name"], row["text"]) for f in files for b in read_batches(store, f) for row in batch_to_rows(b)]

    def texts(self, folder: Path) -> list[str]:
        return sorted(p.read_text() for p in folder.iterdir())

    def check(self) -> None:
        """Whatever was moved is committed."""
        kept = {text for _, text in self.kept()}
        assert set(self.texts(self.done)) <= kept, "moved away, and not kept"

    def check_end(self) -> None:
        """Every file was kept, once, and moved away."""
        assert self.texts(self.inbox) == [], "forgotten"
        assert self.texts(self.done) == sorted(text for _, text in self.made)
        assert sorted(self.kept()) == sorted(self.made), "read twice, or not at all"


@pytest.fixture
def inbox(world: Any) -> Inbox:
    return Inbox(world)


@pytest.mark.slow
def test_files_are_moved_when_they_are_kept_and_never_before(inbox: Inbox, notes: list[str]) -> None:
    rolled, killed = inbox.world.random, 0
    for n in range(40):
        inbox.add(f"f{n:02d}")
    end = time.monotonic() + 60
    while killed < 20 and time.monotonic() < end:
        run = inbox.run(pace=0.02)
        time.sleep(0.25 + rolled.random() * 0.5)
        again = f"f{rolled.randrange(40):02d}"
        if not (inbox.inbox / again).exists():
            inbox.add(again)  # another file under a name that was acknowledged, perhaps just now
        killed += run.kill()
        inbox.check()
    for _ in range(2):
        last = inbox.run()
        assert last.wait() == 0, last.said
        inbox.check()
    inbox.check_end()
    assert killed >= 10
    notes.append(f"outbox: {killed} killed while running, {len(inbox.made)} files moved, each kept once")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [TOO_EARLY, FORGETFUL], ids=["too early", "forgetful"])
def test_a_broken_outbox_is_caught(inbox: Inbox, broken: str) -> None:
    for n in range(4):
        inbox.add(f"f{n}")
    assert inbox.run(entry=broken + inbox.world.ENTRY).wait() == -signal.SIGKILL
    inbox.run(entry=broken + inbox.world.ENTRY).wait()
    with pytest.raises(AssertionError):
        inbox.check()
        inbox.check_end()
