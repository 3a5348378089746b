"""Heads: small objects that hint how far each anchovy's log is, so that one listing shows which of a thousand have moved.

A hint and nothing more. A writer that dies does not write it, and a listing's times may be coarse: whoever reads it looks at the
logs themselves now and then.
"""

from __future__ import annotations

from collections.abc import Iterable

from anchovies.store.base import Store
from anchovies.store.keys import Home

_LENGTHS = 61


def write(store: Store, home: Home, slot: int) -> None:
    """Say that the log of `home` is at `slot`. Its length changes with the slot, for stores that tell times by the second."""
    store.put(home.head, f'{{"slot":{slot}}}'.encode() + b" " * (slot % _LENGTHS))


def tags(store: Store, homes: Iterable[Home]) -> dict[str, str]:
    """Of anchovies of one user, those that have a head: root → a text that changes when the head does. One LIST.

    A store whose listing has no times gives none.
    """
    wanted = {home.head: home.root for home in homes}
    first, last = min(wanted), max(wanted)
    found = {}
    for entry in store.list(first.rpartition("/")[0] + "/", start_after=first[:-1]):
        if entry.key > last:
            break
        if entry.key in wanted and entry.modified > 0:
            found[wanted[entry.key]] = f"{entry.modified!r}:{entry.size}"
    return found
