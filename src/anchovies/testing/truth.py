"""What is true in a simulated history: an oracle that sees each record and each deletion the moment it takes effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from anchovies.store.keys import Home
from anchovies.store.record import Change, Record, unseal
from anchovies.testing.simulator import Violation

HOME = Home("sim", "numbers")
_LOG = HOME.slot(1).rpartition("/")[0].rpartition("/")[0] + "/"
Mark = list[int]
"""A checkpoint of a split: [generation, number]. An edit begins a new generation at 0."""


class Target(Protocol):
    """A database as the oracle sees it: how far it is, since when it is registered, whether it was set back."""

    position: tuple[int, str]
    registered: int | None
    restored: bool


class Oracle:
    """It knows what no session can know. `objects` are those of the store, `targets` the databases that load from the log;
    `began`: when a maintainer's session did."""

    def __init__(self, objects: dict[str, bytes], targets: Sequence[Target]) -> None:
        self.slot, self.cid, self.seq = 0, "", 0
        self.workers = self.floor = 0
        self.epochs: dict[int, int] = {}  # by lane: of its last open
        self.owners: dict[int, str] = {}  # by lane: the session that may commit
        self.columns: dict[str, set[str]] = {}
        self.marks: dict[str, Mark] = {}
        self.ledger: dict[str, int] = {}
        self.cids: dict[int, str] = {}
        self.history: dict[int, tuple[dict[str, Mark], dict[str, int]]] = {0: ({}, {})}
        self.named: dict[str, tuple[str, int]] = {}
        self.retired: dict[str, int] = {}
        self.began: dict[str, int] = {}
        self._retirements: list[tuple[str, int, int]] = []
        self._objects, self._targets = objects, targets

    def landed(self, key: str, data: bytes) -> None:
        """A key has its first content."""
        if not key.startswith(_LOG):
            return
        record = unseal(data, Record, key)
        if record.slot != self.slot + 1 or HOME.slot(record.slot) != key or record.prev != self.cid:
            raise Violation(f"slot {record.slot} is not a continuation of slot {self.slot}")
        if record.seq < self.seq:
            raise Violation(f"seq went back in slot {record.slot}: {record.seq} after {self.seq}")
        self.slot, self.cid, self.seq = record.slot, record.cid, record.seq + record.rows
        self.cids[record.slot] = record.cid
        if record.kind in ("open", "commit", "reset"):
            self._session(record)
        if record.kind in ("open", "commit"):
            self._built_on(record)
        self._names(record)
        self._retire(record)
        self._changes(record)

    def _session(self, record: Record) -> None:
        session, lane, slot = record.writer.session, record.lane, record.slot
        anew = record.kind == "reset" or record.workers != self.workers
        if record.kind != "commit":
            if record.epoch <= (max([self.floor, *self.epochs.values()]) if anew else self.epoch(lane)):
                raise Violation(f"the epoch did not rise in slot {slot}")
            if anew:
                self._anew(record)
            if record.kind == "open":
                self.epochs[lane], self.owners[lane] = record.epoch, session
        elif anew or (record.epoch, session) != (self.epoch(lane), self.owners.get(lane)):
            raise Violation(
                f"slot {slot} was written by session {session}, and lane {lane} is {self.owners.get(lane, 'nobody')}'s"
            )

    def epoch(self, lane: int) -> int:
        """The epoch that counts in a lane."""
        return max(self.floor, self.epochs.get(lane, 0))

    def _anew(self, record: Record) -> None:
        """Every session of before is over: the log was reset, or is shared by another number of workers."""
        if record.kind == "open":
            if self.workers and record.change != Change():
                raise Violation(f"slot {record.slot} carries a batch that began before the log was shared out anew")
            self.workers = record.workers
        self.floor, self.owners = record.epoch, {}

    def _built_on(self, record: Record) -> None:
        """The batch began at checkpoints and entries that are still there."""
        base: dict[str, Any] = record.change.receipts.get("sim", {"marks": {}, "ledger": {}})
        for key, mark in base["marks"].items():
            if mark != self.marks.get(key, [0, 0]):
                raise Violation(f"{key}: the batch began at {mark} and met {self.marks.get(key)}: rows lost or twice")
        for key, value in base["ledger"].items():
            if value != self.ledger.get(key):
                raise Violation(f"ledger entry {key}: the batch saw {value} and met {self.ledger.get(key)}")

    def _names(self, record: Record) -> None:
        for f in record.change.files:
            if f.path not in self._objects:
                raise Violation(f"slot {record.slot} names a file that is gone: {f.path}")
            self.named[f.path] = (f.table, record.slot)

    def _retire(self, record: Record) -> None:
        began = self.began.get(record.writer.session, 0)
        for tbl, upto in record.change.retire.items():
            self._retirements.append((tbl, upto, began))
            for n, target in enumerate(self._targets):
                known = target.registered is not None and target.registered < began
                if known and not target.restored and target.position[0] < upto:
                    raise Violation(f"slot {upto} of {tbl} was retired, and database {n} stands at {target.position[0]}")
            self.retired[tbl] = max(upto, self.retired.get(tbl, 0))

    def _changes(self, record: Record) -> None:
        change = record.change
        self.marks.update({k: v.value for k, v in change.checkpoints.set.items()})
        for ledger in change.ledgers.values():
            self.ledger.update(ledger.put)
            for key in ledger.delete:
                self.ledger.pop(key, None)
        for tbl, said in change.tables.items():
            if lost := self.columns.get(tbl, set()) - set(said["columns"]):
                raise Violation(f"slot {record.slot} forgets columns of {tbl}: {sorted(lost)}")
            self.columns[tbl] = set(said["columns"])
        self.history[record.slot] = ({k: list(v) for k, v in self.marks.items()}, dict(self.ledger))

    def deleted(self, key: str) -> None:
        """An object goes."""
        if key.startswith(_LOG):
            raise Violation(f"a slot was deleted: {key}")
        tbl, slot = self.named.get(key, ("", 0))
        if slot > self.retired.get(tbl, 0):
            raise Violation(f"a file that slot {slot} names was deleted: {key}")

    def may_gap(self, target: Target) -> bool:
        """Whether files that the target has not seen were given up rightly: it was set back, or nobody knew of it yet when the
        maintainer that retired them began."""
        slot, known = target.position[0], target.registered
        return any(
            name == tbl and slot < at <= upto and (target.restored or known is None or known >= began)
            for tbl, upto, began in self._retirements
            for name, at in self.named.values()
        )
