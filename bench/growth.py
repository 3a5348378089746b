"""Homes that have grown: a log of many commits, folders of many data files. Made by the log's own code, written out at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from anchovies.core.clock import SystemClock
from anchovies.core.ids import SystemIds
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.local import LocalStore
from anchovies.store.log import Log
from anchovies.store.maintain import Maintainer
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, Writer

SESSION = 500  # commits of one session, so that there are epochs as well


class Grower:
    """Commits of one tiny file each, by sessions of 500."""

    def __init__(self, home: Home, table: str, key: str, data: bytes, rows: int) -> None:
        self.home, self._table, self._key, self._data, self._rows = home, table, key, data, rows
        self._clock, self._ids = SystemClock(), SystemIds()

    def _writer(self) -> Writer:
        return Writer(host="bench", pid=1, session=self._ids.session(self._clock.now_us()), batch=1, version="0")

    def grow(self, store: Store, commits: int) -> None:
        for first in range(0, commits, SESSION):
            log = Log(store, self.home, clock=self._clock, ids=self._ids, writer=self._writer())
            log.load()
            for n in range(first, min(first + SESSION, commits)):
                log.append(self._change(log, n))
            log.finish()

    def _change(self, log: Log, n: int) -> Change:
        path = log.new_data_key(self._table, "parquet")
        file = DataFile(self._table, path, len(self._data), self._rows, "0" * 64, [("n", "int")], [0])
        value = CheckpointValue(n + 1, [self._table])
        return Change(files=[file], checkpoints=Checkpoints(set={self._key: value}))

    def maintain(self, store: Store) -> None:
        Maintainer(store, self.home, self._clock, self._ids, self._writer()).run()


def grown(folder: Path, grower: Grower, commits: int) -> Path:
    """A datastore in `folder` whose log has so many commits, maintained. Made in memory: fsync would take many minutes."""
    shutil.rmtree(folder, ignore_errors=True)
    memory = MemoryStore()
    grower.grow(memory, commits)
    folder.mkdir(parents=True)
    for entry in memory.list(""):
        path = folder / entry.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memory.get(entry.key))
    grower.maintain(LocalStore(str(folder)))
    return folder


def litter(home: Path, table: str, files: int) -> None:
    """So many objects below data/, which no reader may list."""
    for n in range(files):
        if n % 1000 == 0:
            folder = home / "data" / table / f"0-{n // 1000 + 1:08d}"
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n:016x}.parquet").touch()
