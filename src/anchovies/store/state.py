"""What the log comes to: a frozen value that is the fold of its records, the same for everybody who reads them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from anchovies.core.errors import CorruptDatastore, FatalError, HistoryDiverged
from anchovies.store.checkpoints import Values, after, keys_of
from anchovies.store.ledgers import NOTHING, Ledger
from anchovies.store.record import FORMAT, Change, Checkpoints, CheckpointValue, LedgerChange, Loaded, Record

DIVERGED = "the datastore was restored, copied or edited by hand: bring back the newer log, or start under a new id"
_NEWER = "a newer anchovies wrote it: update this one"


class Totals(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a table came to: rows, bytes, files ever committed, the last slot that brought some, the last that completed it."""

    rows: int = 0
    bytes: int = 0
    files: int = 0
    slot: int = 0
    complete: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The fold of slots 1..`slot`. `cid` is that of `slot`, `seq` the least that the next record may have.

    `checkpoints`: the newest value by key; `behind`: older ones, of tables for which it was not set. `ledgers` by name, `tables`
    (metadata) and `totals` by table name. `retired`: the slot up to which the data files of a table were given up; `resets`: the
    slots of `reset` records. An empty log is `State()`.
    """

    v: int = FORMAT
    store: str = ""
    slot: int = 0
    cid: str = ""
    seq: int = 0
    at: str = ""
    workers: int = 0
    floor: int = 0
    lanes: dict[str, int] = {}
    checkpoints: dict[str, CheckpointValue] = {}
    ledgers: dict[str, Ledger] = {}
    tables: dict[str, dict[str, Any]] = {}
    totals: dict[str, Totals] = {}
    loads: list[Loaded] = []
    ack_pending: list[str] = []
    retired: dict[str, int] = {}
    resets: list[int] = []
    acks: dict[str, list[str]] | UnsetType = UNSET  # `ack_pending` of all lanes but 0; not there for a log that never had one
    behind: dict[str, list[CheckpointValue]] | UnsetType = UNSET  # not there where no key has any

    def values(self, key: str) -> Values:
        """Every value of a checkpoint key, the newest first: see `store/checkpoints.py`."""
        return [self.checkpoints[key], *(self.behind or {}).get(key, ())] if key in self.checkpoints else []

    def pending(self, lane: int) -> list[str]:
        """The tokens that a session of `lane` committed, and that are not acknowledged yet."""
        return (self.acks or {}).get(str(lane), []) if lane else self.ack_pending

    def epoch(self, lane: int) -> int:
        """The epoch that counts in `lane`: its last open, or the last re-partition."""
        return max(self.lanes.get(str(lane), 0), self.floor)

    @property
    def top_epoch(self) -> int:
        return max([self.floor, *self.lanes.values()])

    @property
    def loaded(self) -> dict[tuple[str, str, str], Loaded]:
        """The newest `Loaded` of each (source, tbl, target)."""
        return {(x.source, x.tbl, x.target): x for x in self.loads}


def fold(state: State, record: Record) -> State:
    """`state` after `record`, which must follow it. Raises what `follows` raises; changes nothing in place."""
    follows(state, record)
    change = record.change
    opened = record.kind == "open"
    reset = record.kind == "reset"
    checkpoints, behind = _checkpoints(state, change.checkpoints)
    new_floor = reset or (opened and record.workers != state.workers)
    ours, others = _acks(state, record)
    return replace(
        state,
        store=record.store,
        slot=record.slot,
        cid=record.cid,
        seq=record.seq + record.rows,
        at=record.at,
        workers=record.workers if opened else state.workers,
        floor=max(state.floor, record.epoch) if new_floor else state.floor,
        lanes={**state.lanes, str(record.lane): record.epoch} if opened else state.lanes,
        checkpoints=checkpoints,
        behind=behind,
        ledgers=_ledgers(state.ledgers, change.ledgers),
        tables={**state.tables, **change.tables} if change.tables else state.tables,
        totals=_totals(state.totals, change, record.slot),
        loads=_loads(state.loads, change.loaded),
        ack_pending=ours,
        acks=others or UNSET,
        retired=_retired(state.retired, change.retire),
        resets=[*state.resets, record.slot] if reset else state.resets,
    )


def follows(state: State, record: Record) -> None:
    """Assert that `record` is what may stand after `state` (invariants I2 and I3). Raises HistoryDiverged or CorruptDatastore."""
    n = record.slot
    if record.kind not in ("open", "commit", "edit", "retire", "reset"):
        raise FatalError(f"slot {n} is a record of kind {record.kind!r}, which this version does not know", hint=_NEWER, slot=n)
    if n != state.slot + 1 or record.prev != state.cid or state.store not in ("", record.store):
        raise HistoryDiverged(f"slot {n} does not follow slot {state.slot} that was read before it", hint=DIVERGED, slot=n)
    if record.seq < state.seq or not _epoch_fits(state, record):
        raise CorruptDatastore(
            f"slot {n} breaks the order of the log (seq {record.seq} after {state.seq}, epoch {record.epoch})",
            hint="stop every session of this anchovy and report this, with that file and the one before it",
            slot=n,
        )


def _epoch_fits(state: State, record: Record) -> bool:
    if record.kind in ("edit", "retire"):
        return True
    if record.kind == "reset":
        return record.epoch > state.top_epoch
    if record.kind == "commit":
        return record.epoch == state.epoch(record.lane) and record.workers == state.workers
    return record.epoch > (state.epoch(record.lane) if record.workers == state.workers else state.top_epoch)


def _checkpoints(
    state: State, change: Checkpoints
) -> tuple[dict[str, CheckpointValue], dict[str, list[CheckpointValue]] | UnsetType]:
    """`checkpoints` and `behind` after a change."""
    if not (keys := keys_of(change)):
        return state.checkpoints, state.behind
    every = {key: after(state.values(key), key, change) for key in keys}
    newest = state.checkpoints | {k: v[0] for k, v in every.items() if v}
    behind = (state.behind or {}) | {k: list(v[1:]) for k, v in every.items()}
    return {k: v for k, v in newest.items() if every.get(k, True)}, {k: v for k, v in behind.items() if v} or UNSET


def _ledgers(old: dict[str, Ledger], changes: dict[str, LedgerChange]) -> dict[str, Ledger]:
    if not changes:
        return old
    new = dict(old)
    for name, change in changes.items():
        new[name] = old.get(name, NOTHING).after(change)
        if change.delete and not new[name]:
            del new[name]
    return new


def _acks(state: State, record: Record) -> tuple[list[str], dict[str, list[str]]]:
    """The tokens of lane 0, and those of the others. A session's record says which ones its lane still owes; where the log is
    shared out anew, lane 0 inherits them all."""
    ours, others = state.ack_pending, dict(state.acks or {})
    if record.kind not in ("open", "commit"):
        return ours, others
    if record.workers != state.workers and state.workers:
        return list(dict.fromkeys([*ours, *(t for lane in sorted(others) for t in others[lane])])), {}
    if not record.lane:
        return record.change.ack_pending, others
    others.pop(str(record.lane), None)
    return ours, {**others, str(record.lane): record.change.ack_pending} if record.change.ack_pending else others


def _retired(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    return {**old, **{tbl: max(slot, old.get(tbl, 0)) for tbl, slot in new.items()}} if new else old


def _totals(old: dict[str, Totals], change: Change, slot: int) -> dict[str, Totals]:
    if not change.files and not change.complete:
        return old
    new = dict(old)
    for f in change.files:
        t = new.get(f.table, Totals())
        new[f.table] = replace(t, rows=t.rows + f.rows, bytes=t.bytes + f.size, files=t.files + 1, slot=slot)
    for tbl in change.complete:
        new[tbl] = replace(new.get(tbl, Totals()), complete=slot)
    return new


def _loads(old: list[Loaded], new: list[Loaded]) -> list[Loaded]:
    if not new:
        return old
    merged = {(x.source, x.tbl, x.target): x for x in [*old, *new]}
    return [merged[k] for k in sorted(merged)]


def touched(change: Change, *, entries: bool = False) -> frozenset[str]:
    """The checkpoint keys that `change` sets or deletes; `ledger:<name>` for ledgers, or `ledger:<name>:<key>` for each of their
    `entries`."""
    ledgers = [f"ledger:{name}" for name in change.ledgers]
    if entries:
        ledgers = [f"ledger:{name}:{key}" for name, of in change.ledgers.items() for key in (*of.put, *of.delete)]
    return frozenset([*keys_of(change.checkpoints), *ledgers])
