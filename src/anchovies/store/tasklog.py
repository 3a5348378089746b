"""The task log and the session results: what happened, for people. Nothing is ever decided by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from anchovies.core.errors import AnchovyError
from anchovies.store.base import Store
from anchovies.store.keys import Home

MOST_KEPT = 10_000  # records that wait until they can be written


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
    """The finished tasks of a session that were not kept yet. `keep` writes a batch of them; `masked` takes secrets out."""

    def __init__(
        self, keep: Callable[[Sequence[TaskRecord], int], None], masked: Callable[[Any], Any] = lambda data: data
    ) -> None:
        self._keep, self._masked = keep, masked
        self.records: list[TaskRecord] = []
        self._written: set[int] = set()
        self.ever_failed = False

    def add(self, record: TaskRecord) -> None:
        self.records.append(record)
        del self.records[:-MOST_KEPT]  # of a service whose datastore is away for days
        self.ever_failed = self.ever_failed or record.status == "ERR"

    @property
    def failed(self) -> bool:
        return any(r.status == "ERR" for r in self.records)

    def write(self, batch: int) -> None:
        """Keep what was added since the last write, under a number of its own (the next free one). Raises what `keep` raises."""
        if not self.records:
            return
        while batch in self._written:
            batch += 1
        self._keep([msgspec.structs.replace(r, data=self._masked(r.data)) for r in self.records], batch)
        self._written = {n for n in (*self._written, batch) if n >= batch - 1}
        self.records = []


def lines(records: Sequence[TaskRecord]) -> bytes:
    """JSON lines, one record each."""
    return msgspec.json.Encoder(enc_hook=str).encode_lines(records)


def write_result(store: Store, home: Home, session: str, result: msgspec.Struct) -> None:
    """Keep what a session came to. Raises StoreUnavailable."""
    store.put(home.result(session), _pretty(result))


def write_mirror(store: Store, key: str, value: Any) -> None:
    """A readable copy of what the log says; None: it is gone. Raises StoreUnavailable."""
    if value is None:
        store.delete(key)
    else:
        store.put(key, _pretty(value))


def write_mirrors(store: Store, home: Home, tables: Mapping[str, Any], checkpoints: Mapping[str, Any]) -> None:
    """Readable copies of what the log says. Deleting or damaging them does nothing; a failure to write them is nobody's loss."""
    every = [(home.table(t), v) for t, v in tables.items()] + [(home.checkpoint(k), v) for k, v in checkpoints.items()]
    with suppress(AnchovyError):
        for key, value in every:
            write_mirror(store, key, value)


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
