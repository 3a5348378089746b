"""Task logs as they lie in a datastore, read from the newest object on: those of each home, and the common (Hive) ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from operator import attrgetter

import msgspec

from anchovies.store.audit import homes
from anchovies.store.base import Entry, Store
from anchovies.store.keys import Home, hive_task_logs
from anchovies.store.tasklog import TaskRecord

MOST_OBJECTS = 10_000
AT_ONCE = 32
SLACK = 5.0  # seconds by which a listing's times may be coarse, or come late

_decoder = msgspec.json.Decoder(TaskRecord)


class TaskLogs:
    """The task logs of an anchovy, or of all of a user.

    Times of a listing only say where to begin; what is shown is ordered by the records' own.
    """

    def __init__(self, store: Store, user: str, id: str | None = None) -> None:
        self._store, self._user, self._id = store, user, id
        self._floor = 0.0
        self._seen: dict[str, float] = {}

    def _prefixes(self) -> Iterator[str]:
        yield hive_task_logs(self._user, self._id)
        for home in homes(self._store, self._user) if self._id is None else (Home(self._user, self._id),):
            yield home.task_logs

    def _entries(self) -> list[Entry]:
        """The newest objects, newest first."""
        every = chain.from_iterable(self._store.list(p) for p in self._prefixes())
        return heapq.nlargest(MOST_OBJECTS, every, key=attrgetter("modified", "key"))

    def newest(self, most: int, wanted: Callable[[TaskRecord], bool], since: float = 0.0) -> list[TaskRecord]:
        """The newest records that are `wanted`, at most so many, the newest last. `since`: seconds since 1970 before which no
        record matters. Raises StoreUnavailable."""
        entries = self._entries()
        self._notice(entries)
        found: list[TaskRecord] = []
        keys = [e.key for e in entries if e.modified >= since - SLACK or not e.modified]
        for start in range(0, len(keys), AT_ONCE):
            found += filter(wanted, self._read(keys[start : start + AT_ONCE]))
            if len(found) >= most:
                break
        return sorted(found, key=attrgetter("timestamp"))[-most:]

    def fresh(self, wanted: Callable[[TaskRecord], bool]) -> list[TaskRecord]:
        """Records of objects that came since the last look, in their order."""
        entries = [e for e in self._entries() if e.modified >= self._floor and e.key not in self._seen]
        self._notice(entries)
        return sorted(filter(wanted, self._read(e.key for e in entries)), key=attrgetter("timestamp"))

    def _notice(self, entries: list[Entry]) -> None:
        """Remember what was seen: only of the last seconds, what is older will not come again."""
        self._floor = max([self._floor, *(e.modified - SLACK for e in entries)])
        every = {**self._seen, **{e.key: e.modified for e in entries}}
        self._seen = {key: at for key, at in every.items() if at >= self._floor}

    def _read(self, keys: Iterable[str]) -> Iterator[TaskRecord]:
        for data in self._store.get_many(list(keys)):
            for line in (data or b"").splitlines():
                with suppress(msgspec.MsgspecError):  # somebody else's, or of a version to come
                    yield _decoder.decode(line)
