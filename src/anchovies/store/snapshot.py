"""Snapshots: the fold of the log up to a slot, so that nobody has to read the log from its start.

Two levels: a snapshot holds the live state itself, and only the names of segments (pages of the log) and of the parts of large
ledgers. So it grows with the tables and the pages, not with the files and the commits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from anchovies.core.errors import AlreadyExists, CorruptDatastore, NotFound
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.ledgers import Ledger, Shards, shard_of, shards_for
from anchovies.store.packed import pack, unpack
from anchovies.store.record import seal, unseal
from anchovies.store.segments import Segment
from anchovies.store.state import State

KEEP = 3
_REBUILT = "delete that file: it is built again from the log"
_NAME = re.compile(r"(\d{16})\.json\.gz")


class KeptLedger(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ledger of `count` entries: the entries themselves, or the keys of the objects that hold its parts."""

    count: int
    entries: dict[str, Any] = {}
    shards: list[str] = []


class Snapshot(msgspec.Struct, frozen=True):
    """What a snapshot object holds. The state's ledgers lie in `ledgers`."""

    state: State
    ledgers: dict[str, KeptLedger]
    segments: list[Segment]


class Shard(msgspec.Struct, frozen=True):
    """What the object of a part holds."""

    entries: dict[str, Any]


def encode(snapshot: Snapshot) -> bytes:
    return pack(seal(snapshot))


def decode(data: bytes, key: str) -> Snapshot:
    """The snapshot that `encode` was given. Raises CorruptDatastore when a single bit differs."""
    found: Snapshot = _opened(data, key, Snapshot)
    return found


Rebuild = Callable[[str, int], Mapping[str, Any]]
"""What a ledger held after a slot, made from the log alone."""


def newest(store: Store, home: Home) -> Snapshot | None:
    """The newest snapshot, verified; None when there is none. One LIST, one GET."""
    for key in keys(store, home):
        with suppress(NotFound):  # collected since it was listed: an older one, or none at all, leads to the same state
            return read(store, home, key)
    return None


def read(store: Store, home: Home, key: str) -> Snapshot:
    """The snapshot in the object `key`. Raises NotFound, CorruptDatastore."""
    found = decode(store.get(key), key)
    if home.snapshot(found.state.slot) != key:
        raise CorruptDatastore(f"{key} is the snapshot of slot {found.state.slot}", hint=_REBUILT, key=key)
    return found


def state_of(store: Store, found: Snapshot, rebuild: Rebuild) -> State:
    """The state with its ledgers; parts of large ones are read when they are asked for."""

    def base(name: str, kept: KeptLedger) -> Mapping[str, Any]:
        if not kept.shards:
            return kept.entries
        return Shards(
            kept.count,
            kept.shards,
            lambda key: _opened(store.get(key), key, Shard).entries,
            lambda: rebuild(name, found.state.slot),
        )

    return replace(found.state, ledgers={name: Ledger(base(name, kept)) for name, kept in found.ledgers.items()})


def write(store: Store, home: Home, state: State, segments: list[Segment], rebuild: Rebuild) -> State:
    """Keep `state`, and the few snapshots before it. Raises what the store raises; the log is whole without it.

    Returns the same state, its ledgers resting on what is kept now.
    """
    kept = {name: _keep(store, home, ledger, state.slot) for name, ledger in sorted(state.ledgers.items())}
    found = Snapshot(replace(state, ledgers={}), kept, segments)
    with suppress(AlreadyExists):
        store.create(home.snapshot(state.slot), encode(found))
    for key in list(islice(keys(store, home), KEEP, None)):
        store.delete(key)
    return state_of(store, found, rebuild)


def _keep(store: Store, home: Home, ledger: Ledger, slot: int) -> KeptLedger:
    """What the snapshot says of a ledger, its changed parts written anew. They are named after `slot`, so that nobody collects
    them before the snapshot that names them."""
    count = len(ledger)
    parts = shards_for(count)
    if not parts:
        return KeptLedger(count, entries=dict(ledger))
    base = ledger.base
    if isinstance(base, Shards) and len(base.names) == parts:
        names, dirty = list(base.names), {shard_of(k, parts) for k in ledger.changed} | base.lost
        content = _changed_parts(base, ledger, dirty)
    else:
        names, content = [""] * parts, {i: {} for i in range(parts)}
        for key, value in ledger.items():
            content[shard_of(key, parts)][key] = value
    for i, entries in sorted(content.items()):
        data = pack(seal(Shard(entries)))
        names[i] = home.shard(slot, hashlib.sha256(data).hexdigest())
        store.put(names[i], data)
    return KeptLedger(count, shards=names)


def _changed_parts(base: Shards, ledger: Ledger, dirty: set[int]) -> dict[int, dict[str, Any]]:
    out = {i: dict(base.part(i)) for i in dirty}
    for key in ledger.changed:
        part = out[shard_of(key, len(base.names))]
        if key in ledger:
            part[key] = ledger[key]
        else:
            part.pop(key, None)
    return out


def keys(store: Store, home: Home) -> Iterator[str]:
    """Newest first, which is how their names sort. Files of other names are not ours."""
    prefix = home.snapshots
    return (e.key for e in store.list(prefix) if _NAME.fullmatch(e.key[len(prefix) :]))


def _opened(data: bytes, key: str, kind: Any) -> Any:
    try:
        return unseal(unpack(data, key, _REBUILT), kind, key)
    except CorruptDatastore as e:
        raise CorruptDatastore(e.message, hint=_REBUILT, key=key) from None
