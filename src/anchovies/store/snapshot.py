"""Snapshots: the fold of the log up to a slot, so that nobody has to read the log from its start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from anchovies.core.errors import AlreadyExists, CorruptDatastore, NotFound
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.packed import pack, unpack
from anchovies.store.record import seal, unseal
from anchovies.store.state import State

KEEP = 3
_REBUILT = "delete that file: it is built again from the log"
_NAME = re.compile(r"(\d{16})\.json\.gz")


def encode(state: State) -> bytes:
    """Deterministic bytes: racing writers write the same."""
    return pack(seal(state))


def decode(data: bytes, key: str) -> State:
    """The state that `encode` was given. Raises CorruptDatastore when a single bit differs."""
    try:
        return unseal(unpack(data, key, _REBUILT), State, key)
    except CorruptDatastore as e:
        raise CorruptDatastore(e.message, hint=_REBUILT, key=key) from None


def newest(store: Store, home: Home) -> State | None:
    """The newest snapshot, verified; None when there is none. One LIST, one GET."""
    for key in _keys(store, home):
        try:
            state = decode(store.get(key), key)
        except NotFound:
            continue  # collected since it was listed: an older one, or none at all, leads to the same state
        if home.snapshot(state.slot) != key:
            raise CorruptDatastore(f"{key} is the snapshot of slot {state.slot}", hint=_REBUILT, key=key)
        return state
    return None


def write(store: Store, home: Home, state: State) -> None:
    """Keep `state`, and the few snapshots before it. Raises what the store raises; the log is whole without it."""
    with suppress(AlreadyExists):
        store.create(home.snapshot(state.slot), encode(state))
    for key in list(islice(_keys(store, home), KEEP, None)):
        store.delete(key)


def _keys(store: Store, home: Home) -> Iterator[str]:
    """Newest first, which is how their names sort. Files of other names are not ours."""
    prefix = home.snapshots
    return (e.key for e in store.list(prefix) if _NAME.fullmatch(e.key[len(prefix) :]))
