"""Fault points beside every request to a datastore: `<what>.<verb>.before` and `.after`, as in `slot.create.after`.

Only a process that ACHVY_FAULT arms goes through here, so there is nothing to forget beside a request that somebody adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from anchovies.core.faultpoint import fault
from anchovies.store.base import Entry, OsLock, Store

_HOME = r"[^/]+/[^/]+/"
_KINDS = [
    (name, re.compile(pattern))
    for name, pattern in (
        ("head", r"[^/]+/\$heads/"),
        ("format", _HOME + r"\$log/_format\.json"),
        ("slot", _HOME + r"\$log/log/"),
        ("snapshot", _HOME + r"\$log/snap/"),
        ("ledger", _HOME + r"\$log/seg/ledger-"),
        ("segment", _HOME + r"\$log/seg/"),
        ("manifest", _HOME + r"\$log/man/"),
        ("cursor", _HOME + r"\$log/cursors/"),
        ("collected", _HOME + r"\$log/collected\.json"),
        ("lease", _HOME + r"\$log/lease(-\d+)?\.json"),
        ("probe", _HOME + r"\$log/probe/"),
        ("lock", _HOME + r"\$log/lock"),
        ("data", _HOME + r"data/"),
        ("rejects", _HOME + r"\$results/rejects/"),
        ("result", _HOME + r"\$results/"),
        ("task_log", rf"({_HOME})?\$task_logs/"),
        ("mirror", _HOME + r"\$(checkpoints|tables)/"),
    )
]

#: Every point that a run can come to; CI lets each do its worst. Of what only reads there is no `after`: nothing has happened.
POINTS = frozenset(
    point
    for what, reads, writes in (
        ("format", "get settle", "create"),
        ("slot", "get settle", "create"),
        ("snapshot", "get list", "create delete"),
        ("ledger", "get list", "put delete"),
        ("segment", "get", "create"),
        ("manifest", "get list", "put delete"),
        ("cursor", "get list", "put"),
        ("collected", "get", "put"),
        ("lease", "get list", "put"),
        ("probe", "list", "put delete"),
        ("lock", "lock", ""),
        ("data", "get list", "put delete"),
        ("rejects", "list", "put delete"),
        ("result", "", "put"),
        ("task_log", "", "put"),
        ("mirror", "", "put"),
        ("head", "list", "put"),
        ("temporary", "", "sweep"),
    )
    for point in (
        *(f"{what}.{verb}.before" for verb in reads.split()),
        *(f"{what}.{verb}.{when}" for verb in writes.split() for when in ("before", "after")),
    )
)


def kind_of(key: str) -> str:
    """What an object is, by its key or by a prefix that says it."""
    return next((name for name, pattern in _KINDS if pattern.match(key)), "other")


class FaultPoints(Store):
    """`inner`, with a point before and after each request."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url = inner.url

    def create(self, key: str, data: bytes) -> None:
        fault(f"{kind_of(key)}.create.before")
        self.inner.create(key, data)
        fault(f"{kind_of(key)}.create.after")

    def put(self, key: str, data: bytes) -> None:
        fault(f"{kind_of(key)}.put.before")
        self.inner.put(key, data)
        fault(f"{kind_of(key)}.put.after")

    def delete(self, key: str) -> None:
        fault(f"{kind_of(key)}.delete.before")
        self.inner.delete(key)
        fault(f"{kind_of(key)}.delete.after")

    def get(self, key: str) -> bytes:
        fault(f"{kind_of(key)}.get.before")
        return self.inner.get(key)

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        for key in keys[:1]:
            fault(f"{kind_of(key)}.get.before")
        return self.inner.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        fault(f"{kind_of(prefix)}.list.before")
        return self.inner.list(prefix, start_after)

    def settle(self, key: str) -> None:
        fault(f"{kind_of(key)}.settle.before")
        self.inner.settle(key)

    def try_lock(self, key: str) -> OsLock | None:
        fault(f"{kind_of(key)}.lock.before")
        return self.inner.try_lock(key)

    def sweep(self) -> int:
        fault("temporary.sweep.before")
        done = self.inner.sweep()
        fault("temporary.sweep.after")
        return done

    def local_path(self, key: str) -> str | None:
        return self.inner.local_path(key)

    def close(self) -> None:
        self.inner.close()
