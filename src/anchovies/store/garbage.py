"""Collecting what no record names: files of sealed epochs, and files that were retired. No clock and no age is looked at.

An epoch of a lane is sealed when a later one was opened there: from then on no record of it can land any more, so what it has
not named yet it never will. Files of the newest epoch are never touched. What was gone through is remembered
(`collected.json`), so that millions of files are listed once; that memory is advisory: without it the work is done again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from anchovies.core.errors import CorruptDatastore, NotFound
from anchovies.store.base import Store
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.record import Record, seal, unseal
from anchovies.store.state import State

_EPOCH = re.compile(r"(\d{8,})/")
_AFTER_ALL = "~"  # sorts behind every character of a file's name


class Collected(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was gone through: epochs below `epochs` of each lane, and the retired files of each table up to `retired`. All records
    of later epochs lie after `slot`, whose record has the id `cid`: in another history all of this means nothing."""

    slot: int = 0
    cid: str = ""
    epochs: dict[str, int] = {}
    retired: dict[str, int] = {}


class Removed(msgspec.Struct):
    """What a collection came to."""

    files: int = 0
    bytes: int = 0


def read_collected(store: Store, home: Home) -> Collected:
    try:
        return unseal(store.get(home.collected), Collected, home.collected)
    except (NotFound, CorruptDatastore):
        return Collected()


class Collector:
    """One pass over the files of one anchovy, by a state of its log that was read to the tail before the pass began."""

    def __init__(self, store: Store, history: History, state: State, deep: bool = False) -> None:
        self._store, self._history, self._home, self._state = store, history, history.home, state
        self._retry = history.retry.call
        self._before = Collected() if deep else self._known()
        self.removed = Removed()

    def run(self) -> Removed:
        """Delete all garbage. Raises what the store raises; what was deleted by then is counted, and nothing else happened."""
        state, before = self._state, self._before
        epochs = {lane: state.epoch(int(lane)) for lane in self._lanes()}
        named, open_since = self._named(epochs)
        retired = self._drop_retired()
        for root, deep in self._roots():
            self._sweep(root, deep, epochs, named)
        slot, cid = open_since
        after = Collected(slot=slot, cid=cid, epochs=epochs, retired=retired)
        if after != before:
            self._retry(lambda: self._store.put(self._home.collected, seal(after)))
        return self.removed

    def _known(self) -> Collected:
        """What an earlier pass remembered, if it was a pass over this history."""
        found = self._history.retry.call(lambda: read_collected(self._store, self._home))
        if found.slot == self._state.slot:
            return found if found.cid == self._state.cid else Collected()
        first = next(self._records(found.slot), None)
        return found if first is not None and first.prev == found.cid else Collected()

    def _named(self, epochs: dict[str, int]) -> tuple[set[str], tuple[int, str]]:
        """Every object that the records since the last pass name, and the slot (and its cid) before the first record of a newest
        epoch: what the next pass has to know begins there."""
        names: set[str] = set()
        start = (self._before.slot, self._before.cid)
        first: dict[str, tuple[int, str]] = {}
        for record in self._records(self._before.slot):
            names.update(_objects(record))
            if record.kind == "open" and record.epoch == epochs.get(str(record.lane)):
                first[str(record.lane)] = (record.slot - 1, record.prev)
        state = self._state
        yet_to_open = (state.slot, state.cid)  # no record of a newest epoch that nobody has opened lies before our state's end
        at = [first.get(lane, start) if epoch >= state.floor else yet_to_open for lane, epoch in state.lanes.items()]
        return names, min(at, default=start)

    def _records(self, slot: int) -> Iterator[Record]:
        """Up to the slot of our state; what came later is of the newest epochs."""
        for record in self._history.records(slot):
            if record.slot > self._state.slot:
                return
            yield record

    # --- sealed epochs ---

    def _lanes(self) -> set[str]:
        """Every lane that may have left files: one that never committed, or that is no more, is known by its files alone."""
        known = {*self._state.lanes, "0"}
        if self._state.floor > 1:  # else nobody has shared the log out anew: what those lanes have written may still be committed
            for root, with_table in self._roots():
                for prefix in list(self._folders(root)) if with_table else [root]:
                    known.update(lane for folder in self._folders(prefix, "-") if (lane := folder[len(prefix) : -1]).isdecimal())
        return known

    def _roots(self) -> Iterator[tuple[str, bool]]:
        """Prefixes below which names begin with lane and epoch; True: a table's name comes first."""
        yield self._home.data_root, True
        yield self._home.rejects_root, True
        yield self._home.manifests, False

    def _sweep(self, root: str, with_table: bool, epochs: dict[str, int], named: set[str]) -> None:
        for prefix in list(self._folders(root)) if with_table else [root]:
            for lane, epoch in sorted(epochs.items()):
                seen = self._before.epochs.get(lane, 0)
                self._sweep_lane(f"{prefix}{lane}-", seen, epoch, named)

    def _sweep_lane(self, prefix: str, seen: int, epoch: int, named: set[str]) -> None:
        """Files of epochs in [seen, epoch) below `prefix`."""
        after = f"{prefix}{seen - 1:08d}/{_AFTER_ALL}" if seen else ""
        for entry in self._store.list(prefix, after):
            of = _EPOCH.match(entry.key, len(prefix))
            if of is not None and int(of[1]) >= epoch:
                return  # names are in the order of epochs
            if of is not None and entry.key not in named:
                self._delete(entry.key, entry.size)

    def _folders(self, root: str, end: str = "/") -> Iterator[str]:
        """The prefixes below `root` that go to the next `end`, each found with one look."""
        after, behind = "", chr(ord(end) + 1)
        while (entry := next(iter(self._store.list(root, after)), None)) is not None:
            folder = entry.key[: entry.key.index(end, len(root)) + 1] if end in entry.key[len(root) :] else ""
            if folder:
                yield folder
            after = f"{folder[:-1]}{behind}" if folder else entry.key

    # --- retired files ---

    def _drop_retired(self) -> dict[str, int]:
        done = self._before.retired
        wanted = {tbl: upto for tbl, upto in self._state.retired.items() if upto > done.get(tbl, 0)}
        if not wanted:
            return done
        for record in self._records(min(done.get(tbl, 0) for tbl in wanted)):
            if record.slot > max(wanted.values()):
                break
            for file in (*record.change.files, *record.change.rejects):
                if done.get(file.table, 0) < record.slot <= wanted.get(file.table, 0):
                    self._delete(file.path, file.size)
        return {**done, **wanted}

    def _delete(self, key: str, size: int) -> None:
        self._retry(lambda: self._store.delete(key))
        self.removed.files += 1
        self.removed.bytes += size


def _objects(record: Record) -> Iterator[str]:
    for file in record.change.files:
        yield file.path
    for file in record.change.rejects:
        yield file.path
    if record.manifest is not None:
        yield record.manifest.path
