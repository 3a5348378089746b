"""Segments: the records of a whole page of the log in one object, for readers that are far behind.

A segment is a copy of slots and nothing more: each of its records is verified like the slot that it came from, so nobody needs to
trust one, and a log without segments is whole. They are never deleted, as slots are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from anchovies.core.errors import AlreadyExists, CorruptDatastore
from anchovies.store.base import Store
from anchovies.store.keys import Home, page_of, slots_of
from anchovies.store.packed import pack, unpack
from anchovies.store.record import Record, unseal

_COPY = "delete that file: it is a copy of slots of the log, and is made again"


class Segment(msgspec.Struct, frozen=True):
    """Slots `start` to `end`; `sha256` (of the packed bytes) is part of the object's name."""

    start: int
    end: int
    sha256: str


def key_of(home: Home, segment: Segment) -> str:
    return home.segment(segment.start, segment.end, segment.sha256)


def whole_pages(after: int, slot: int) -> Iterator[range]:
    """The pages of the log after slot `after` (the last of a page, or 0) that end at `slot` or before."""
    page = page_of(after + 1)
    while (slots := slots_of(page)).stop - 1 <= slot:
        yield slots
        page += 1


def write(store: Store, home: Home, slots: range, lines: Iterable[bytes]) -> Segment:
    """Keep the records of `slots`, whose bytes are `lines`. The same slots give the same object."""
    data = pack(b"".join(line + b"\n" for line in lines))
    segment = Segment(slots[0], slots[-1], hashlib.sha256(data).hexdigest())
    with suppress(AlreadyExists):
        store.create(key_of(home, segment), data)
    return segment


def read(store: Store, home: Home, segment: Segment) -> list[Record]:
    """The records of a segment, each verified by its own checksum; their manifests are not fetched.

    Raises NotFound, and CorruptDatastore when a single bit differs.
    """
    key = key_of(home, segment)
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise CorruptDatastore(f"{key} is damaged: its checksum is not the one in its name", hint=_COPY, key=key)
    records = [unseal(line, Record, key) for line in unpack(data, key, _COPY).splitlines()]
    if [r.slot for r in records] != list(range(segment.start, segment.end + 1)):
        raise CorruptDatastore(f"{key} does not hold the slots of its name", hint=_COPY, key=key)
    return records
