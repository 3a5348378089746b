"""Following the log of another anchovy: record after record, without listing, without a clock, without writing."""

from __future__ import annotations

from collections.abc import Iterator

from anchovies.core.clock import SystemClock
from anchovies.core.errors import HistoryDiverged, NotFound
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store.base import Store
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.record import DataFile, Record
from anchovies.store.state import DIVERGED, State


class Reader:
    """A position is (slot, cid of that slot); (0, "") is before the first."""

    def __init__(self, store: Store, home: Home, retry: Retry | None = None) -> None:
        self.home = home
        self._history = History(store, home, retry or Retry(SystemClock(), SystemIds()))
        self._uuid: str | None = None
        self._seen: tuple[int, str] = (0, "")

    def exists(self) -> bool:
        """Has that anchovy ever committed (or tried to)?"""
        return self._store_uuid() is not None

    def state(self) -> State:
        """The fold of the whole log, verified. An empty `State()` when there is none."""
        return self._history.load()[0]

    def next(self, slot: int, cid: str) -> Record | None:
        """The record after position (slot, cid), durable, with its whole change; None at the tail.

        Raises HistoryDiverged when the log is not the one in which that position was taken.
        """
        record = self._history.after(slot)
        if record is None:
            self._still_there(slot, cid)
            return None
        return self._followed(record, slot, cid)

    def _followed(self, record: Record, slot: int, cid: str) -> Record:
        """`record`, if it continues the history that was read up to the position. It is durable then."""
        if record.prev != cid or record.store != self._store_uuid():
            raise self._diverged(slot)
        self._history.settle(record.slot)
        self._seen = (record.slot, record.cid)
        return record

    def records(self, slot: int, cid: str, limit: int | None = None) -> Iterator[Record]:
        """The records after the position, at most `limit` of them, until the tail. After `state()` they are read from segments
        where there are some: then a reader that is far behind needs few requests."""
        if limit is not None and limit <= 0:
            return
        for record in self._history.records(slot):
            yield self._followed(record, slot, cid)
            slot, cid = record.slot, record.cid
            limit = None if limit is None else limit - 1
            if limit == 0:
                return
        self._still_there(slot, cid)

    def files_of(self, record: Record) -> list[DataFile]:
        """The data files of a record, in the order in which `_seq` counts their rows."""
        return record.change.files

    def _store_uuid(self) -> str | None:
        if self._uuid is None:
            self._uuid = self._history.uuid()
        return self._uuid

    def _still_there(self, slot: int, cid: str) -> None:
        """At the tail: a log that was rolled back to before our position looks just like that."""
        if (slot, cid) == self._seen or slot == 0:
            return
        try:
            here = self._history.record(slot)
        except NotFound:
            raise self._diverged(slot) from None
        if here.cid != cid:
            raise self._diverged(slot)
        self._seen = (slot, cid)

    def _diverged(self, slot: int) -> HistoryDiverged:
        return HistoryDiverged(
            f"the log of {self.home.root} is not the one that was read up to slot {slot}", hint=DIVERGED, slot=slot
        )
