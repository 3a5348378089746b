"""A datastore that comes with a plugin is tried before a log is begun in it: a store that lets two writers win is refused.

It is tried once for each datastore; `$heads/.probe` remembers that it passed. Where there is a log already, nothing is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from anchovies.core.errors import AlreadyExists, AnchovyError, ConfigError, NotFound
from anchovies.core.ids import Ids, SystemIds
from anchovies.store.base import Entry, OsLock, Store
from anchovies.store.keys import PASSED, begins_a_log, trial

_WAY_OUT = (
    "take a server that keeps `If-None-Match: *` (S3, Azure, GCS, MinIO, R2, SeaweedFS do), update this one, or use a folder: "
    "--datastore /path"
)


class Proven(Store):
    """`inner`, which must have stood its trial before the first object of a log is created in it."""

    def __init__(self, inner: Store, ids: Ids | None = None) -> None:
        self.inner = inner
        self.url = inner.url
        self._ids = ids or SystemIds()
        self._turn = threading.Lock()
        self._trusted = False

    def create(self, key: str, data: bytes) -> None:
        if begins_a_log(key) and not self._trusted:
            with self._turn:
                self._trusted = self._trusted or _remembered(self.inner) or try_out(self.inner, self._ids.nonce())
        self.inner.create(key, data)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        return self.inner.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return self.inner.list(prefix, start_after)

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def settle(self, key: str) -> None:
        self.inner.settle(key)

    def sweep(self) -> int:
        return self.inner.sweep()

    def try_lock(self, key: str) -> OsLock | None:
        return self.inner.try_lock(key)

    def local_path(self, key: str) -> str | None:
        return self.inner.local_path(key)

    def close(self) -> None:
        self.inner.close()


def _remembered(store: Store) -> bool:
    try:
        store.get(PASSED)
    except NotFound:
        return False
    return True


def try_out(store: Store, nonce: str) -> bool:
    """Write an object, try to replace it, read and list it. Raises ConfigError when the store cannot be trusted.

    Also raises StoreUnavailable: then nothing is known yet, and the next session tries.
    """
    key, first, second = trial(nonce), f"1 {nonce}".encode(), f"2 {nonce}".encode()
    with suppress(AlreadyExists):  # the answer to our own first attempt may have been lost; what counts is what is there
        store.create(key, first)
    replaced = True
    try:
        store.create(key, second)
    except AlreadyExists:
        replaced = False
    if replaced or store.get(key) != first:
        raise _refused(store, "it lets a second writer replace what the first one created, so that commits would be lost")
    if key not in [e.key for e in store.list(PASSED)]:
        raise _refused(store, "an object that was written is not listed at once")
    with suppress(AnchovyError):  # a login that may not delete leaves a few bytes here, once
        store.delete(key)
    store.put(PASSED, b'{"put_if_absent":true,"list_after_write":true}')
    return True


def _refused(store: Store, why: str) -> ConfigError:
    return ConfigError(f"{store.url} cannot be a datastore: {why}", hint=_WAY_OUT)
