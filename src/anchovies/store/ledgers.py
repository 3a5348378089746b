"""Ledgers: large sets of a log's state (files, ids). A large one is kept in parts; only those that are asked for are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from anchovies.core.errors import NotFound
from anchovies.store.record import LedgerChange

INLINE = 1000
SHARD = 2048
_GONE = object()

Entries = Mapping[str, Any]


def shards_for(count: int) -> int:
    """In how many parts so many entries are kept: a power of two, 0 where they lie in the snapshot itself."""
    if count <= INLINE:
        return 0
    parts = 1
    while parts * SHARD < count:
        parts *= 2
    return parts


def shard_of(key: str, parts: int) -> int:
    """Which of `parts` parts holds `key`, by its hash."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") % parts


class Shards(Mapping[str, Any]):
    """The entries of a ledger as kept parts. `read(name)` gives the entries of a part; `rebuild()` the whole ledger from the log,
    for parts that were collected since: they are `lost`, and have to be kept anew."""

    def __init__(self, count: int, names: Sequence[str], read: Callable[[str], Entries], rebuild: Callable[[], Entries]) -> None:
        self.names = list(names)
        self.lost: set[int] = set()
        self._count, self._read, self._rebuild = count, read, rebuild
        self._seen: dict[int, Entries] = {}

    def part(self, index: int) -> Entries:
        if index not in self._seen:
            try:
                found = self._read(self.names[index])
            except NotFound:
                found = {k: v for k, v in self._rebuild().items() if shard_of(k, len(self.names)) == index}
                self.lost.add(index)
            self._seen[index] = found
        return self._seen[index]

    def __getitem__(self, key: str) -> Any:
        return self.part(shard_of(key, len(self.names)))[key]

    def __iter__(self) -> Iterator[str]:
        for index in range(len(self.names)):
            yield from self.part(index)

    def __len__(self) -> int:
        return self._count


class Ledger(Mapping[str, Any]):
    """Entries by key: what was kept, and the changes since. Never changed in place."""

    def __init__(self, base: Entries | None = None, changes: Mapping[str, Any] | None = None) -> None:
        self.base: Entries = {} if base is None else base
        self._changes: Mapping[str, Any] = {} if changes is None else changes

    def after(self, change: LedgerChange) -> Ledger:
        """This ledger, changed."""
        return Ledger(self.base, {**self._changes, **change.put, **dict.fromkeys(change.delete, _GONE)})

    @property
    def changed(self) -> list[str]:
        """The keys that were put or removed since the base was kept."""
        return list(self._changes)

    def __getitem__(self, key: str) -> Any:
        found = self._changes.get(key, self)
        if found is _GONE:
            raise KeyError(key)
        return self.base[key] if found is self else found

    def __iter__(self) -> Iterator[str]:
        yield from (k for k in self.base if k not in self._changes)
        yield from (k for k, v in self._changes.items() if v is not _GONE)

    def __len__(self) -> int:
        return len(self.base) + sum((v is not _GONE) - (k in self.base) for k, v in self._changes.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ledger({len(self)} entries)"


NOTHING = Ledger()
