"""A datastore in memory: the executable specification of what a datastore does. For tests and the Python API."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from anchovies.core.clock import Clock, SystemClock
from anchovies.core.errors import AlreadyExists, ConfigError, NotFound
from anchovies.store.base import Entry, OsLock, Store


def check_key(key: str) -> list[str]:
    """The components of a key. Raises ConfigError for keys that could mean another place than they say."""
    parts = key.split("/")
    if any(p in ("", ".", "..") or "\0" in p for p in parts):
        raise ConfigError(f"{key!r} is not a key of a datastore", hint="a key is names with '/' between them")
    return parts


class MemoryStore(Store):
    """Thread-safe. Two with one name, made by `MemoryStore.named`, are one."""

    _shared: dict[str, MemoryStore] = {}  # noqa: RUF012
    _registry = threading.Lock()

    def __init__(self, name: str = "", clock: Clock | None = None) -> None:
        self.url = f"memory://{name}"
        self._clock = clock or SystemClock()
        self._turn = threading.Lock()
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._keys: list[str] = []
        self._locks: set[str] = set()

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """The process's store of that name. Without a name: a new one each time."""
        if not name:
            return cls()
        with cls._registry:
            return cls._shared.setdefault(name, cls(name))

    def create(self, key: str, data: bytes) -> None:
        with self._turn:
            if key in self._objects:
                raise AlreadyExists(f"{key} exists", key=key)
            self._write(key, data)

    def put(self, key: str, data: bytes) -> None:
        with self._turn:
            self._write(key, data)

    def _write(self, key: str, data: bytes) -> None:
        check_key(key)
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = (bytes(data), self._clock.now_us() / 1_000_000)

    def get(self, key: str) -> bytes:
        check_key(key)
        with self._turn:
            if key not in self._objects:
                raise NotFound(f"there is no {key}", key=key)
            return self._objects[key][0]

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        with self._turn:
            start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
            found = []
            for key in self._keys[start:]:
                if not key.startswith(prefix):
                    break
                data, modified = self._objects[key]
                found.append(Entry(key, len(data), modified))
        return iter(found)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._turn:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def try_lock(self, key: str) -> OsLock:
        check_key(key)
        with self._turn:
            if key in self._locks:
                raise AlreadyExists(f"{key} is locked", key=key)
            self._locks.add(key)
        return _Held(self, key)

    def _unlock(self, key: str) -> None:
        with self._turn:
            self._locks.discard(key)


class _Held:
    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key

    def release(self) -> None:
        key, self._key = self._key, ""
        self._store._unlock(key)
