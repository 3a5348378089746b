"""The datastore interface: four primitives, one of them conditional, and a plain overwrite for advisory objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from anchovies.core.errors import NotFound
from anchovies.core.secret import Secret


class Entry(msgspec.Struct, frozen=True):
    """One object of a listing. `modified` (seconds, the *store's* clock) serves the lease's politeness and nothing else."""

    key: str
    size: int
    modified: float


class Address(msgspec.Struct, frozen=True):
    """Which datastore is meant, for the plugin that opens it: `<scheme>://<place>/<prefix>`.

    `attributes` come from `ACHVY_CNXN__DATASTORE__…`. No request may take longer than `patience` seconds, if it is given: what
    runs has a deadline.
    """

    scheme: str
    place: str
    prefix: str = ""
    attributes: Mapping[str, Secret] = {}
    patience: float | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}" + (f"/{self.prefix}" if self.prefix else "")


class OsLock(Protocol):
    """A lock that the operating system frees when its holder dies."""

    def release(self) -> None: ...


class Store(ABC):
    """A folder or a bucket. Keys are `/`-separated texts that `store/keys.py` made; values are bytes.

    Every method raises `StoreUnavailable` when it does not know whether it took effect. Implementations translate every error
    of the library below, never retry a `create` blindly, and keep no state that another process would need.
    """

    #: how a person writes it, without any secret
    url: str

    @abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Put if absent, durable when it returns. `AlreadyExists` when the key has an object (perhaps our own)."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The object's bytes. Raises `NotFound`."""

    @abstractmethod
    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Objects whose key starts with `prefix` and is > `start_after`, in key order, strongly consistent."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite, atomically and durably: unique names (data files) and advisory objects (lease, mirrors, hints)."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object. None there: fine."""

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """What `get` gives for each of `keys`, in their order; None where there is no object. Buckets ask for several at once.

        An error is raised at the key it befell.
        """
        for key in keys:
            try:
                yield self.get(key)
            except NotFound:
                yield None

    def settle(self, key: str) -> None:  # noqa: B027
        """Make an object that was *seen* durable before acting on it (local folders: fsync). Buckets need nothing."""

    def try_lock(self, key: str) -> OsLock | None:
        """Take the operating system's lock named `key`, if this store has such locks. Raises `AlreadyExists` when it is held."""
        return None

    def sweep(self) -> int:
        """Remove what killed writers left behind and nobody can reach by a key; how much it was. Safe beside running writers."""
        return 0

    def local_path(self, key: str) -> str | None:
        """The path of the object's file where it is one, else None. For reading only."""
        return None

    def close(self) -> None:  # noqa: B027
        """Give back connections. The store can not be used afterwards."""
