"""A datastore that counts what it is asked: each verb is one request of a bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from anchovies.store.base import Entry, OsLock, Store

READS, WRITES = ("get", "list"), ("create", "put", "delete")


class CountingStore(Store):
    """`inner`, and what it was asked since `clear()`: `asked` has (verb, key) of all requests, in order.

    It has no locks and no local files, as a bucket has none; `settle` costs a bucket nothing and is not counted.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url = inner.url
        self.asked: list[tuple[str, str]] = []

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def writes(self) -> int:
        return sum(verb in WRITES for verb, _ in self.asked)

    def clear(self) -> None:
        self.asked = []

    def by_kind(self) -> dict[str, int]:
        """How often each (`get lease.json`, `list snap/`, `put data`): the verb and what the key is of, without the anchovy."""
        return dict(Counter(f"{verb} {_what(key)}" for verb, key in self.asked))

    def create(self, key: str, data: bytes) -> None:
        self.asked.append(("create", key))
        self.inner.create(key, data)

    def get(self, key: str) -> bytes:
        self.asked.append(("get", key))
        return self.inner.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        self.asked.append(("list", prefix))
        return self.inner.list(prefix, start_after)

    def put(self, key: str, data: bytes) -> None:
        self.asked.append(("put", key))
        self.inner.put(key, data)

    def delete(self, key: str) -> None:
        self.asked.append(("delete", key))
        self.inner.delete(key)

    def try_lock(self, key: str) -> OsLock | None:
        return None


def _what(key: str) -> str:
    """`u/a/$log/log/0000000000/0000000000000007.json` → `log/`; `u/$heads/a` → `$heads/`; `u/a/$log/lease.json` as its name."""
    parts = key.split("/")[1:]
    inside = parts if parts and parts[0].startswith("$") else parts[1:]
    inside = inside[1:] if inside[:1] == ["$log"] else inside
    return inside[0] if len(inside) == 1 else f"{inside[0]}/" if inside else key
