"""The task log and the session results: what happened, for people. Nothing is ever decided by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from anchovies.core.errors import AnchovyError
from anchovies.store.base import Store
from anchovies.store.keys import Home


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished task. `duration` in ms; `timestamp` its end, ISO 8601 UTC; `data` plain JSON."""

    anchovy_id: str
    anchovy_user: str
    session_id: str
    batch_id: int
    thread_id: int
    operator: str
    task_type: str
    duration: int
    timestamp: str
    status: str
    tbl: str | None = None
    data: dict[str, Any] = {}


class TaskLog:
    """The finished tasks of one batch, kept as one object of JSON lines. `masked` takes secrets out of their data."""

    def __init__(self, store: Store, home: Home, session: str, masked: Callable[[Any], Any] = lambda data: data) -> None:
        self._store, self._home, self._session, self._masked = store, home, session, masked
        self.records: list[TaskRecord] = []
        self._written: set[int] = set()

    def add(self, record: TaskRecord) -> None:
        self.records.append(record)

    @property
    def failed(self) -> bool:
        return any(r.status == "ERR" for r in self.records)

    def write(self, batch: int) -> None:
        """Keep what was added since the last write, in an object of its own (the next free number). Raises StoreUnavailable."""
        if not self.records:
            return
        while batch in self._written:
            batch += 1
        records = [msgspec.structs.replace(r, data=self._masked(r.data)) for r in self.records]
        lines = msgspec.json.Encoder(enc_hook=str).encode_lines(records)
        self._store.put(self._home.task_log(self._session, batch), lines)
        self._written = {n for n in (*self._written, batch) if n >= batch - 1}
        self.records = []


def write_result(store: Store, home: Home, session: str, result: msgspec.Struct) -> None:
    """Keep what a session came to. Raises StoreUnavailable."""
    store.put(home.result(session), msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def write_mirrors(store: Store, home: Home, tables: dict[str, Any], checkpoints: dict[str, Any]) -> None:
    """Readable copies of what the log says. Deleting or damaging them does nothing; a failure to write them is nobody's loss."""
    for key, value in [
        *((home.table(t), v) for t, v in tables.items()),
        *((home.checkpoint(k), v) for k, v in checkpoints.items()),
    ]:
        try:
            if value is None:
                store.delete(key)
            else:
                store.put(key, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        except AnchovyError:
            return
