"""Keeping a datastore small and quick: snapshots, segments, retention, garbage. Safe at any time, by any number at once.

Every step stands on a state of the log that was read to its tail and made durable first; none looks at the age of an object.
The one clock that is asked is for `retain`, and only about data that every registered reader has loaded already.
"""

from __future__ import annotations

import re
from itertools import islice

import msgspec

from anchovies.core.clock import Clock
from anchovies.core.errors import NotFound
from anchovies.core.ids import Ids
from anchovies.core.retry import Retry
from anchovies.store import cursors, snapshot
from anchovies.store.base import Store
from anchovies.store.garbage import Collector
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Note, Writer
from anchovies.store.state import State

EVERY = 256  # slots after which a writer looks after its own log
_STAMP = re.compile(r"(\d{16})-")


class Report(msgspec.Struct):
    """What it came to. `held_back`: tables whose old data stay, and why; `swept`: what killed writers had left behind."""

    slot: int = 0
    snapshot: bool = False
    segments: int = 0
    retired: dict[str, int] = {}
    held_back: dict[str, str] = {}
    files: int = 0
    bytes: int = 0
    parts: int = 0
    swept: int = 0


class Maintainer:
    """Looks after the log and the files of one anchovy."""

    def __init__(self, store: Store, home: Home, clock: Clock, ids: Ids, who: Writer, retry: Retry | None = None) -> None:
        self._store, self._home, self._clock = store, home, clock
        self._retry = retry or Retry(clock, ids)
        self._history = History(store, home, self._retry)
        self._log = Log(store, home, clock=clock, ids=ids, writer=who, retry=self._retry)

    def run(self, retain: float | None = None, *, deep: bool = False) -> Report:
        """All of it. `retain`: seconds for which data are kept at least; None: for ever. `deep`: go through all files again.

        Raises StoreUnavailable and what reading the log raises; what was done by then stays done.
        """
        state = self._log.load()
        report = Report(slot=state.slot)
        if not state.slot:
            return report
        report.snapshot = self._log.keep_snapshot()
        if retain is not None:
            state = self._retire(state, retain, report)
        state, _ = self._history.load()
        self._history.settle(state.slot)  # what is deleted below rests on it
        report.slot, report.segments = state.slot, len(self._history.segments)
        removed = Collector(self._store, self._history, state, deep).run()
        report.files, report.bytes = removed.files, removed.bytes
        report.parts = self._old_parts()
        report.swept = self._store.sweep()
        return report

    # --- retention ---

    def _retire(self, state: State, retain: float, report: Report) -> State:
        """Give up what every registered reader has loaded and what is old enough."""
        registered = cursors.read_all(self._store, self._home)
        passed = cursors.passed(registered, state.store)
        report.held_back = _reasons(state, registered, passed)
        upto = self._old_enough(state, passed, self._clock.now_us() - int(retain * 1_000_000))
        if upto:
            w = self._log.writer
            self._log.retire(upto, Note(who=w.session, why=f"kept for {retain:.0f} s, and loaded by all"))
            report.retired = upto
        return self._log.state

    def _old_enough(self, state: State, passed: dict[str, int], before_us: int) -> dict[str, int]:
        """By table, the last slot with files that may go."""
        open_ = {tbl: slot for tbl, slot in passed.items() if slot > state.retired.get(tbl, 0)}
        upto: dict[str, int] = {}
        if not open_:
            return upto
        for record in self._history.records(min(state.retired.get(tbl, 0) for tbl in open_)):
            if record.seq > before_us or record.slot > max(open_.values()):
                break
            for f in record.change.files:
                if state.retired.get(f.table, 0) < record.slot <= open_.get(f.table, 0):
                    upto[f.table] = record.slot
        return upto

    # --- what snapshots have left behind ---

    def _old_parts(self) -> int:
        """Delete parts of ledgers that no snapshot names. A part is named after the snapshot that wrote it first: newer ones than
        the oldest snapshot here may be of one that is just being written."""
        kept = []
        for key in list(islice(snapshot.keys(self._store, self._home), snapshot.KEEP)):
            try:
                kept.append(snapshot.read(self._store, self._home, key))
            except NotFound:
                return 0  # they are moving: another time
        named = {name for s in kept for ledger in s.ledgers.values() for name in ledger.shards}
        oldest = min((s.state.slot for s in kept), default=0)
        removed = 0
        for entry in list(self._store.list(self._home.shards)):
            stamp = _STAMP.match(entry.key, len(self._home.shards))
            if stamp is not None and int(stamp[1]) < oldest and entry.key not in named:
                self._retry.call(lambda key=entry.key: self._store.delete(key))  # type: ignore[misc]
                removed += 1
        return removed


def _reasons(state: State, registered: list[cursors.Cursor | None], passed: dict[str, int]) -> dict[str, str]:
    if any(c is None for c in registered):
        return dict.fromkeys(state.totals, "a cursor in $log/cursors cannot be read; delete it, its reader writes it anew")
    if any(c is not None and c.store != state.store for c in registered):
        return dict.fromkeys(state.totals, "a registered reader knows another log; run it, or --forget-consumer")
    return {tbl: "no reader is registered for it" for tbl in state.totals if tbl not in passed}
