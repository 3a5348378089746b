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
from anchovies.store.log import NOBODY, Log
from anchovies.store.record import Note, Writer
from anchovies.store.state import State

EVERY = 256  # slots after which a writer looks after its own log
_STAMP = re.compile(r"(\d{16})-")


class Holder(msgspec.Struct, frozen=True):
    """A target for which old data stay: it has `loaded` no more of `tbl`, and `since` is the first commit that it lacks, `at` its
    time (in microseconds). `ahead`: another target of the consumer's same table has more, so this one was replaced, perhaps."""

    tbl: str
    consumer: str
    target: str
    loaded: int
    since: int
    at: int
    ahead: bool = False


class Report(msgspec.Struct):
    """What it came to. `held_back`: tables whose old data stay, and why; `holders`: the targets that have yet to load them;
    `swept`: what killed writers had left behind."""

    slot: int = 0
    snapshot: bool = False
    segments: int = 0
    retired: dict[str, int] = {}
    held_back: dict[str, str] = {}
    holders: list[Holder] = []
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
        lane, workers = NOBODY
        self._log = Log(store, home, clock=clock, ids=ids, writer=who, lane=lane, workers=workers, retry=self._retry)

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
        before_us = self._clock.now_us() - int(retain * 1_000_000)
        report.holders = self._holders(state, registered, before_us) if passed else []
        upto = self._old_enough(state, passed, before_us)
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

    def _holders(self, state: State, registered: list[cursors.Cursor | None], before_us: int) -> list[Holder]:
        """Who has not loaded what is old enough to go: nobody but a person knows whether such a target is gone for good."""
        every = [(c.consumer, seen) for c in registered if c is not None for seen in c.seen]
        behind = [(who, s) for who, s in every if s.tbl in state.totals and s.slot < state.totals[s.tbl].slot]
        if not behind:
            return []
        missing: dict[tuple[str, str, str], Holder] = {}
        for record in self._history.records(min(max(s.slot, state.retired.get(s.tbl, 0)) for _, s in behind)):
            if record.seq > before_us or len(missing) == len(behind):
                break
            tables = {f.table for f in record.change.files}
            for who, s in behind:
                if s.tbl in tables and record.slot > s.slot:
                    holder = Holder(s.tbl, who, s.target, s.slot, record.slot, record.seq, _is_ahead(every, who, s))
                    missing.setdefault((s.tbl, who, s.target), holder)
        return [missing[key] for key in sorted(missing)]

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


def _is_ahead(every: list[tuple[str, cursors.Seen]], consumer: str, seen: cursors.Seen) -> bool:
    """Whether the consumer has more of the same table in another database."""
    name = seen.target.rpartition("@")[0]
    mine = [s for who, s in every if who == consumer and s.tbl == seen.tbl and s.target.rpartition("@")[0] == name]
    return any(s.slot > seen.slot for s in mine)


def _reasons(state: State, registered: list[cursors.Cursor | None], passed: dict[str, int]) -> dict[str, str]:
    if any(c is None for c in registered):
        return dict.fromkeys(state.totals, "a cursor in $log/cursors cannot be read; delete it, its reader writes it anew")
    if other := sorted(c.consumer for c in registered if c is not None and c.store != state.store):
        return dict.fromkeys(state.totals, f"{other[0]} knows another log; run it, or --forget-consumer {other[0]}")
    return {tbl: "no reader is registered for it" for tbl in state.totals if tbl not in passed}
