"""Parts that can be replaced: subclass one, and name the class in its setting (`--task-store-cls ./mine.py:Tasks`).

One instance of each is made a session, with a `Place`; with `--threads` several threads call it. What a part writes is for
people: the log is the truth, and decides. So a `write` that raises is told as a warning and ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from anchovies.core.ids import SystemIds
from anchovies.sdk.result import SessionResult
from anchovies.sdk.session import Batch, Limits, Session
from anchovies.store.base import Store
from anchovies.store.keys import Home, hive_task_log
from anchovies.store.tasklog import TaskRecord, lines, write_mirror, write_result

__all__ = [
    "Batch",
    "CheckpointStore",
    "HiveTaskStore",
    "Limits",
    "Place",
    "ResultStore",
    "Session",
    "TaskRecord",
    "TaskStore",
    "TblStore",
]


class Place(msgspec.Struct, frozen=True):
    """Whose part it is, and where. `datastore` takes objects of your own beside those of the anchovies."""

    user: str
    anchovy_id: str
    session_id: str
    datastore: Store

    @property
    def home(self) -> Home:
        """Makes the keys of the anchovy's own objects."""
        return Home(self.user, self.anchovy_id)


class _Part:
    def __init__(self, place: Place) -> None:
        self.place = place


class CheckpointStore(_Part):
    """`--checkpoint-cls`: in which form the log keeps checkpoint values, and a readable copy of them.

    When a value is committed, and which rows it belongs to, cannot be changed here.
    """

    def encode(self, key: str, value: Any) -> Any:
        """What the log keeps for `value`, as `Checkpoint.set` got it: JSON, dates, decimals. What it raises fails the table."""
        return value

    def decode(self, key: str, kept: Any) -> Any:
        """The value that `encode` made `kept` of. What it raises fails the table."""
        return kept

    def write(self, key: str, kept: Mapping[str, Any] | None) -> None:
        """Copy what was committed: `{"key":, "value":, "tbls":}`, None after a deletion. Here: `$checkpoints/<key>.json`.

        Where tables that it feeds were read apart, this is the newest value, and `others` has the rest.
        """
        write_mirror(self.place.datastore, self.place.home.checkpoint(key), kept)


class TblStore(_Part):
    """`--tbl-store-cls`: a readable copy of the tables as downstream anchovies see them (they read them from the log)."""

    def write(self, name: str, tbl: Mapping[str, Any] | None) -> None:
        """Copy what was committed of a table (`columns`, `unique_by`, …), None if it is gone. Here: `$tables/<name>.json`."""
        write_mirror(self.place.datastore, self.place.home.table(name), tbl)


class TaskStore(_Part):
    """`--task-store-cls`: where the records of finished tasks go."""

    def write(self, records: Sequence[TaskRecord], batch_id: int) -> None:
        """Keep the records of a batch. It is called again for what came after. Here: `$task_logs/<session>-<batch>.jsonl`.

        If it raises, the records are kept here, so that none is lost.
        """
        self.place.datastore.put(self.place.home.task_log(self.place.session_id, batch_id), lines(records))


class HiveTaskStore(TaskStore):
    """Task logs of all anchovies in one place, as a Hive table of JSON lines:
    `$task_logs/anchovy_user=…/anchovy_id=…/<batch>.<time>.<rand>.json`."""

    def write(self, records: Sequence[TaskRecord], batch_id: int) -> None:
        where = self.place
        key = hive_task_log(where.user, where.anchovy_id, batch_id, records[-1].timestamp, SystemIds().nonce())
        where.datastore.put(key, lines(records))


class ResultStore(_Part):
    """`--result-store-cls`: where the result of a session goes. Exit codes and leases do not ask it."""

    def write(self, result: SessionResult) -> None:
        """Keep a copy of what a session came to. Here: `$results/<session>_results.json`. If it raises, it is kept here."""
        write_result(self.place.datastore, self.place.home, self.place.session_id, result)
