"""The log of one anchovy, and the one place where a commit happens: put-if-absent of the next slot."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Literal

from msgspec.structs import replace

from anchovies.core.clock import Clock, iso
from anchovies.core.errors import (
    AlreadyExists,
    AnchovyError,
    CommitUnknown,
    ConfigError,
    FatalError,
    Fenced,
    NotFound,
    Stopped,
    StoreUnavailable,
)
from anchovies.core.ids import Ids
from anchovies.core.retry import Retry
from anchovies.store import heads, rivals, snapshot
from anchovies.store.base import Store
from anchovies.store.history import Format, History, manifest
from anchovies.store.keys import Home
from anchovies.store.record import FORMAT, MAX_RECORD, Change, Note, Record, Writer, seal
from anchovies.store.state import State, fold, touched

Deed = Literal["commit", "share", "edit", "retire", "reset"]
SNAPSHOT_EVERY = 256
NOBODY = (-1, 0)  # lane and workers of who only edits, retires or resets
_UNKNOWN = "nothing was cleaned up and nothing is lost: run it again, the next session finds out whether the commit landed"


class Log:
    """A session's hold on the log. `load`, then `append` as often as there is something, then `finish`.

    The first commit is the session's `open` as well, so a run that finds nothing writes nothing. `writer` may be replaced between
    batches. Calls are serialised; `revoke` may come from any thread. `lane`: the session is this one of `workers` that share the
    log, each with epochs of its own; what the others commit is folded on the way.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        *,
        clock: Clock,
        ids: Ids,
        writer: Writer,
        lane: int = 0,
        workers: int = 1,
        retry: Retry | None = None,
    ) -> None:
        if not 0 <= lane < workers and (lane, workers) != NOBODY:
            raise ConfigError(
                f"there is no worker {lane} of {workers}", hint="workers are counted from 0: the last of 4 is --worker-num 3"
            )
        self.writer = writer
        self.committed = False
        self._store, self._home, self._clock, self._ids = store, home, clock, ids
        self._lane, self._workers = lane, workers
        self._retry = retry or Retry(clock, ids)
        self._history = History(store, home, self._retry)
        self._turn = threading.RLock()
        self._revoked: AnchovyError | None = None
        self._dead: AnchovyError | None = None
        self._joined = False  # the log was seen to be shared by as many workers as we are told: from then on it must stay so
        self._start(State(), 0)

    # --- what was read ---

    @property
    def state(self) -> State:
        """The log as this session knows it: as loaded, plus its own commits and what it had to fold on the way."""
        return self._state

    @property
    def ack_pending(self) -> list[str]:
        """Tokens that a session of this lane has committed, and not acknowledged at the source yet as far as the log knows."""
        return self._state.pending(max(self._lane, 0))

    @property
    def epoch(self) -> int:
        """The epoch of this session's files and records; tentative until its first commit."""
        return self._epoch

    def load(self) -> State:
        """Read the log to its tail and begin (again) from there: the next commit opens a new session. Writes nothing."""
        with self._turn:
            if isinstance(self._dead, Fenced):
                raise self._dead
            self._start(*self._history.load())
            self._dead = None
            if self._joined and not self._is_shared_so():
                self._dead = self._taken_over(self._state.workers)
                raise self._dead
            self._joined = self._is_shared_so() and self._workers > 0
            return self._state

    def _start(self, state: State, base: int) -> None:
        self._state, self._snapshot = state, base
        self._opened = False
        self._epoch = state.epoch(self._lane) + 1

    def _is_shared_so(self) -> bool:
        """Whether as many workers as we are told share the log, or nobody has shared it yet."""
        return self._state.workers in (0, self._workers)

    def begin(self) -> bool:
        """Call it before a batch reads its source. Where another number of workers shared the log until now, it is shared out
        anew by a record of its own: it ends every session of the old partition, and its epoch is above all of theirs.

        True: it was, by us or by a sibling just now. Otherwise nothing is written. Raises Fenced, CommitUnknown,
        StoreUnavailable.
        """
        with self._turn:
            self._permitted()
            if self._is_shared_so() or not self._workers:
                return False
            self._ready()
            if self._race("share", Change(), frozenset()) is not None:
                self._opened = self.committed = True
            self._epoch = self._state.epoch(self._lane) + (not self._opened)
            self._joined = True
            return True

    # --- names of data files ---

    def data_key(self, tbl: str, nonce: str, ext: str) -> str:
        """Where a data file of this session lies. After StaleSession: make new ones."""
        return self._home.data(tbl, self._lane, self._epoch, nonce, ext)

    def new_data_key(self, tbl: str, ext: str) -> str:
        return self.data_key(tbl, self._ids.nonce(), ext)

    def new_rejects_key(self, tbl: str) -> str:
        return self._home.rejects(tbl, self._lane, self._epoch, self._ids.nonce())

    # --- the commit ---

    def append(self, change: Change, keys: frozenset[str] = frozenset()) -> Record:
        """Commit `change`, whose files are durable already. `keys`: the checkpoint keys that the batch read (`ledger:<name>` for
        ledgers, where workers share the log `ledger:<name>:<key>` for single entries); those it sets are added.

        Raises Fenced (a newer session owns the log: stop), StaleSession (the batch was built on what is no longer true; nothing
        landed: `load`, begin again), CommitUnknown (nobody knows: clean up nothing), StoreUnavailable (before it was tried),
        FatalError, and what `revoke` was given.
        """
        with self._turn:
            assert self._workers, "who only edits has no rows to commit"
            self._ready()
            if not self._is_shared_so():
                self.begin()
                what = f"{self._home.root} was shared out anew, and this batch had begun before that"
                self._dead = rivals.stale(self._state.slot, what)
                raise self._dead
            record = self._race("commit", change, keys | touched(change, entries=self._workers > 1))
            assert record is not None
            self._opened = self.committed = True
            if self._state.slot - self._snapshot >= SNAPSHOT_EVERY:
                self._keep_snapshot()
            return record

    def edit(self, change: Change) -> Record:
        """Commit a change that was made by hand (`change.note` says who and why). It fences nobody; batches that depend on what
        it changes begin again. Raises CommitUnknown, FatalError."""
        return self._by_hand("edit", change)

    def retire(self, upto: dict[str, int], note: Note) -> Record:
        """Give up the data files of each table up to a slot; they may be deleted once this has returned. It fences nobody.

        The caller knows that every registered reader has passed them. Raises CommitUnknown, FatalError.
        """
        return self._by_hand("retire", Change(retire=upto, note=note))

    def reset(self, change: Change) -> Record:
        """Fence every session of every lane, whatever it thinks it owns; `change.note` says who and why.

        The way to go on after a datastore was restored or mended by hand. Raises CommitUnknown, FatalError.
        """
        return self._by_hand("reset", change)

    def _by_hand(self, kind: Deed, change: Change) -> Record:
        """A record of no lane: nothing but another record in its slot can be in its way, and then it takes the next."""
        with self._turn:
            self._ready()
            record = self._race(kind, change, frozenset())
            assert record is not None
            self.committed = True
            return record

    def revoke(self, reason: AnchovyError | None = None) -> None:
        """Take the permission to commit away, for good: every later attempt raises `reason`. Waits for nobody.

        A commit whose request is under way already may still land, and its `append` then says so.
        """
        self._revoked = reason or Stopped("this session may not commit any more")

    def finish(self) -> bool:
        """The session's last act, if it committed: a snapshot for the next one, and the hint how far the log is.

        Both are advisory; False when they could not be written.
        """
        with self._turn:
            if not self.committed or self._dead is not None:
                return True
            return self._keep_snapshot()

    def keep_snapshot(self) -> bool:
        """A snapshot of what was loaded, whoever committed it; it is made durable first. False when it could not be written."""
        with self._turn:
            if self._state.slot == self._snapshot:
                return True
            self._history.settle(self._state.slot)
            return self._keep_snapshot()

    def _keep_snapshot(self) -> bool:
        try:
            segments = self._history.seal_pages(self._state.slot)
            self._state = snapshot.write(self._store, self._home, self._state, segments, self._history.rebuild)
            heads.write(self._store, self._home, self._state.slot)
        except AnchovyError:
            return False
        self._snapshot = self._state.slot
        return True

    def _ready(self) -> None:
        """May this session commit? Then make sure that there is a log."""
        self._permitted()
        if self._dead is not None:
            raise self._dead
        if not self._state.store:
            self._state = replace(self._state, store=self._retry.call(self._marker))
        elif self._state.slot and not self._opened:
            self._history.settle(self._state.slot)  # what we build on must not vanish in a power cut that our own record survives

    def _permitted(self) -> None:
        if self._revoked is not None:
            raise self._revoked

    def _marker(self) -> str:
        """Create the format marker, or find that somebody has."""
        mine = Format(format=FORMAT, store_uuid=self._ids.cid())
        with suppress(AlreadyExists, StoreUnavailable):
            self._store.create(self._home.format, seal(mine))
        found = self._history.uuid()
        if found is None:
            raise StoreUnavailable(f"{self._home.format} could not be written")
        self._store.settle(self._home.format)
        return found

    def _race(self, kind: Deed, change: Change, keys: frozenset[str]) -> Record | None:
        """Take the next slot, and the next, until one is ours. The same commit throughout: same cid, same files.

        None: a sibling was first to share the log out as we wanted to.
        """
        draft = self._draft(kind, change)
        while True:
            if self._workers > 1:
                self._read_on(kind, change, keys)  # siblings fill slot after slot: looking is cheaper than trying
            if kind == "share" and self._is_shared_so():
                return None
            mine = self._place(kind, draft)
            try:
                found = self._put(mine)
                if found.cid == mine.cid:
                    whole = replace(mine, change=change)
                    self._state = fold(self._state, whole)
                    return whole
                self._lost(kind, found, change, keys)
            except BaseException as e:
                # also what another thread threw into this one: then nobody knows, whatever the error says
                if self._dead is None and not isinstance(e, FatalError) and e is not self._revoked:
                    self._unknown(mine, e)
                raise

    def _read_on(self, kind: Deed, change: Change, keys: frozenset[str]) -> None:
        """Fold what siblings have committed meanwhile, or raise why that cannot be."""
        slot = self._state.slot
        for found in self._history.records(slot):
            self._lost(kind, found, change, keys)
        if self._state.slot > slot:
            self._history.settle(self._state.slot)

    def _draft(self, kind: Deed, change: Change) -> Record:
        """The record, but for what depends on its slot."""
        of_lane = kind in ("commit", "share")
        draft = Record(
            v=FORMAT,
            store=self._state.store,
            slot=0,
            epoch=self._epoch if of_lane else 0,
            lane=self._lane if of_lane else -1,
            workers=self._workers if of_lane else 0,
            seq=0,
            kind="open" if kind == "share" or (kind == "commit" and not self._opened) else kind,
            cid=self._ids.cid(),
            prev="",
            writer=self.writer,
            at="",
            rows=change.rows,
            change=change,
        )
        return draft if len(seal(draft)) < MAX_RECORD - 256 else self._outsource(draft)

    def _outsource(self, draft: Record) -> Record:
        """A long change goes into an object of its own, written before the record that names it."""
        ref, data = manifest(self._home, draft.lane, draft.epoch, draft.cid, draft.change)
        self._retry.call(lambda: self._store.put(ref.path, data))
        return replace(draft, manifest=ref, change=Change(note=draft.change.note))

    def _place(self, kind: Deed, draft: Record) -> Record:
        """The draft as the record of the next slot. `seq` never goes back, whatever the clock does."""
        now = self._clock.now_us()
        state = self._state
        # two above every epoch: above the tentative one of any session that has not committed yet, too
        epoch = state.top_epoch + 2 if kind in ("reset", "share") else draft.epoch
        return replace(draft, slot=state.slot + 1, prev=state.cid, seq=max(state.seq, now), at=iso(now), epoch=epoch)

    def _put(self, mine: Record) -> Record:
        """Create the slot and find out whose it is: our record, or the one that was there first.

        A retry puts the same bytes. AlreadyExists is a question (it may be our own lost answer), so the slot is read.
        """
        key, data, tried = self._home.slot(mine.slot), seal(mine), 0
        while True:
            try:
                self._permitted()
                self._store.create(key, data)
                return mine
            except (AlreadyExists, StoreUnavailable):
                tried += 1
            except AnchovyError as e:  # nothing of *this* attempt landed; an earlier one may have
                if tried:
                    raise self._unknown(mine, e) from e
                raise
            try:
                return self._look(mine)
            except NotFound as e:
                if not self._retry.again(tried):
                    raise self._unknown(mine, e) from e
            except StoreUnavailable as e:
                raise self._unknown(mine, e) from e

    def _look(self, mine: Record) -> Record:
        """What the slot holds, made durable before anybody acts on it. Raises NotFound when nothing has landed."""
        found = self._history.record(mine.slot)
        self._history.settle(mine.slot)
        return found

    def _unknown(self, mine: Record, cause: BaseException) -> CommitUnknown:
        self._dead = CommitUnknown(
            f"nobody knows whether commit {mine.cid} landed in slot {mine.slot} of {self._home.root}: {cause}",
            hint=_UNKNOWN,
            slot=mine.slot,
        )
        return self._dead

    def _lost(self, kind: Deed, found: Record, change: Change, keys: frozenset[str]) -> None:
        """Another record holds the slot that we wanted: fold it and go on, or raise why that cannot be."""
        before = self._state
        self._state = fold(self._state, found)
        if kind != "commit":
            return
        self._dead = self._verdict(found, before, change, keys)
        if self._dead is not None:
            raise self._dead

    def _verdict(self, found: Record, before: State, change: Change, keys: frozenset[str]) -> AnchovyError | None:
        """What it means for a commit that `found` came first; None: nothing. `before`: the state then."""
        by_hand = found.kind in ("edit", "retire")
        if by_hand or (found.lane != self._lane and found.workers == before.workers == self._workers):
            theirs = touched(found.change) | touched(found.change, entries=True)
            if not keys & theirs and (by_hand or not rivals.describes_otherwise(found.change, change, before)):
                return None
            what = f"slot {found.slot} of {self._home.root} changed a checkpoint that the running batch depends on"
            return rivals.stale(found.slot, what)
        if found.kind != "reset" and found.workers != self._workers:
            return self._taken_over(found.workers)
        if not self._opened:
            return rivals.stale(found.slot, f"another session of {self._home.root} committed first (slot {found.slot})")
        return rivals.overtaken(self._home, found)

    def _taken_over(self, workers: int) -> Fenced:
        return rivals.taken_over(self._home, self._state.slot, workers, self._workers)
