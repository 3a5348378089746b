"""Registered readers: what each uploader says it has loaded, in the home of the anchovy whose rows it loads.

A cursor is written from what a target has committed: it may lag, it never leads. Only retention looks at cursors; whoever has
none registered is asked by nobody, so a table that nobody registered for is never retired.
"""

from __future__ import annotations

import msgspec

from anchovies.core.errors import NotFound
from anchovies.store.base import Store
from anchovies.store.keys import Home


class Seen(msgspec.Struct, frozen=True):
    """A target of a consumer has everything of `tbl` up to `slot`, whose record has the id `cid`."""

    tbl: str
    target: str
    slot: int
    cid: str


class Cursor(msgspec.Struct, frozen=True):
    """All that one consumer (`user/id`) loads of one anchovy, whose log is `store`."""

    consumer: str
    store: str
    seen: list[Seen]


def read(store: Store, home: Home, consumer: str) -> Cursor | None:
    """The consumer's cursor; None when there is none, or when it cannot be understood."""
    try:
        return msgspec.json.decode(store.get(home.cursor(consumer)), type=Cursor)
    except (NotFound, msgspec.MsgspecError):
        return None


def write(store: Store, home: Home, cursor: Cursor) -> None:
    """Register, or move on. Advisory: the caller goes on when it fails."""
    store.put(home.cursor(cursor.consumer), msgspec.json.encode(cursor, order="sorted"))


def forget(store: Store, home: Home, consumer: str) -> bool:
    """Take a consumer off the list, so that it holds nothing back. False: it was not on it."""
    key = home.cursor(consumer)
    try:
        store.get(key)
    except NotFound:
        return False
    store.delete(key)
    return True


def forget_target(store: Store, home: Home, target: str) -> list[str]:
    """Take one target off the lists of all consumers; who had it. A consumer that still loads it registers it again."""
    had = []
    for cursor in read_all(store, home):
        left = [s for s in cursor.seen if s.target != target] if cursor is not None else []
        if cursor is None or len(left) == len(cursor.seen):
            continue
        had.append(cursor.consumer)
        if left:
            write(store, home, Cursor(cursor.consumer, cursor.store, left))
        else:
            forget(store, home, cursor.consumer)
    return sorted(had)


def read_all(store: Store, home: Home) -> list[Cursor | None]:
    """Every registered cursor; None for each that cannot be understood."""
    found: list[Cursor | None] = []
    for entry in list(store.list(home.cursors)):
        try:
            found.append(msgspec.json.decode(store.get(entry.key), type=Cursor))
        except NotFound:
            continue  # forgotten since it was listed
        except msgspec.MsgspecError:
            found.append(None)
    return found


def passed(cursors: list[Cursor | None], store_uuid: str) -> dict[str, int]:
    """By table, the slot that every target of every consumer has passed. Nothing, when some cursor cannot be understood or is one
    of another log: nobody knows then what it still needs."""
    if any(c is None or c.store != store_uuid for c in cursors):
        return {}
    slots: dict[str, int] = {}
    for cursor in cursors:
        for seen in cursor.seen if cursor else ():
            slots[seen.tbl] = min(seen.slot, slots.get(seen.tbl, seen.slot))
    return slots
