"""Reading a log: every object is verified, nothing is guessed, nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from anchovies.core.errors import AnchovyError, ConfigError, CorruptDatastore, HistoryDiverged, NotFound, StoreUnavailable
from anchovies.core.retry import Retry
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.ledgers import NOTHING, Ledger
from anchovies.store.packed import pack, unpack
from anchovies.store.record import FORMAT, Change, Manifest, Record, unseal
from anchovies.store.segments import Segment, whole_pages
from anchovies.store.segments import read as read_segment
from anchovies.store.segments import write as write_segment
from anchovies.store.snapshot import newest, state_of
from anchovies.store.state import DIVERGED, State, fold

MOST_AT_ONCE = 64
_RESTORE = "restore that object from a backup of the datastore; nothing was guessed and nothing was changed"


class Format(msgspec.Struct, frozen=True):
    """The first object of a log: how it is written, and the id that no copy under another name shares."""

    format: int
    store_uuid: str


class History:
    """The log of one anchovy as something to read. Each request is tried again while the datastore does not answer."""

    def __init__(self, store: Store, home: Home, retry: Retry) -> None:
        self.store = store
        self.home = home
        self.retry = retry
        self.segments: list[Segment] = []

    def uuid(self) -> str | None:
        """The store uuid; None when there is no log yet. Raises ConfigError for a format that is newer than this program."""
        try:
            data = self._get(self.home.format)
        except NotFound:
            return None
        try:
            # the number alone first: a newer format may look different in everything else
            number = msgspec.json.decode(data, type=dict[str, object]).get("format")
        except msgspec.MsgspecError:
            number = None
        if isinstance(number, int) and number > FORMAT:
            raise ConfigError(
                f"{self.home.root} was written in format {number}; this version reads up to format {FORMAT}",
                hint="update anchovies here, or give this one another id",
            )
        return unseal(data, Format, self.home.format).store_uuid

    def record(self, slot: int) -> Record:
        """The record of `slot`, its own checksum and number verified, its manifest fetched. Raises NotFound at the tail."""
        key = self.home.slot(slot)
        return self._whole(self._opened(key, self._get(key), slot))

    def settle(self, slot: int) -> None:
        """Make a record that was seen durable: on local disks it is visible earlier than that."""
        self.retry.call(lambda: self.store.settle(self.home.slot(slot)))

    def load(self) -> tuple[State, int]:
        """The state at the tail, and the slot of the snapshot it was read from (0: none)."""
        uuid = self.uuid()
        if uuid is None and (uuid := self._late()) is None:
            return State(), 0
        state = State(store=uuid)
        if (found := self.retry.call(lambda: newest(self.store, self.home))) is not None:
            state, self.segments = state_of(self.store, found, self.rebuild), found.segments
        if state.store != uuid:
            raise HistoryDiverged(f"the newest snapshot of {self.home.root} is of another log", hint=DIVERGED)
        base = state.slot
        for record in self.records(base):
            state = fold(state, record)
        return state, base

    def after(self, slot: int) -> Record | None:
        """The record of the next slot; None at the tail."""
        try:
            return self.record(slot + 1)
        except NotFound:
            return None

    def records(self, slot: int) -> Iterator[Record]:
        """The records after `slot`, to the tail: far behind from segments, then many slots at once. Each is verified; whether
        they follow each other is for the caller to see."""
        for segment in self.segments:
            if segment.end > slot:
                records = self._segment(segment) if segment.start <= slot + 1 else None
                if records is None:
                    break  # a hole, or one that cannot be read: slots never go away
                for record in records[slot + 1 - segment.start :]:
                    yield self._whole(record)
                    slot = record.slot
        yield from self._slots(slot)

    def _slots(self, slot: int) -> Iterator[Record]:
        """Slot after slot, more and more of them with one call."""
        many, tried = 1, 0
        while True:
            keys = [self.home.slot(slot + 1 + i) for i in range(many)]
            try:
                for key, data in zip(keys, self.store.get_many(keys), strict=False):
                    if data is None:
                        return
                    yield self._whole(self._opened(key, data, slot + 1))
                    slot, tried = slot + 1, 0
            except StoreUnavailable:
                tried += 1
                if not self.retry.again(tried):
                    raise
            many = min(2 * many, MOST_AT_ONCE)

    def _segment(self, segment: Segment) -> list[Record] | None:
        try:
            return self.retry.call(lambda: read_segment(self.store, self.home, segment))
        except (NotFound, CorruptDatastore):
            return None

    def rebuild(self, name: str, upto: int) -> Ledger:
        """What the ledger `name` held after slot `upto`, from the log alone."""
        ledger = NOTHING
        for record in self.records(0):
            if record.slot > upto:
                break
            if name in record.change.ledgers:
                ledger = ledger.after(record.change.ledgers[name])
        return ledger

    def seal_pages(self, slot: int) -> list[Segment]:
        """Write the segments of all whole pages up to `slot` that have none yet. Raises what the store raises."""
        found = list(self.segments)
        for slots in whole_pages(found[-1].end if found else 0, slot):
            keys = [self.home.slot(n) for n in slots]
            lines = [data for data in self.retry.call(lambda keys=keys: list(self.store.get_many(keys))) if data is not None]  # type: ignore[misc]
            if len(lines) != len(keys):
                raise CorruptDatastore(f"a slot of {keys[0]} to {keys[-1]} is missing", hint=_RESTORE, key=keys[0])
            found.append(write_segment(self.store, self.home, slots, lines))
        self.segments = found
        return found

    def _late(self) -> str | None:
        """No marker: then there is no first slot, or a rival has written both just now, or somebody took the marker away."""
        if self.after(0) is None:
            return None
        uuid = self.uuid()
        if uuid is None:
            raise CorruptDatastore(f"{self.home.format} is missing, but there is a log", hint=_RESTORE, key=self.home.format)
        return uuid

    def _opened(self, key: str, data: bytes, slot: int) -> Record:
        found = unseal(data, Record, key)
        if found.slot != slot:
            raise CorruptDatastore(f"{key} holds slot {found.slot}", hint=_RESTORE, key=key)
        return found

    def _whole(self, record: Record) -> Record:
        if record.manifest is None:
            return record
        ref = record.manifest
        try:
            data = self._get(ref.path)
        except NotFound:
            raise _broken(ref, "is missing") from None
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise _broken(ref, "is damaged: its checksum is not the one of its record")
        change = msgspec.json.decode(unpack(data, ref.path, _RESTORE), type=Change)
        return replace(record, change=replace(change, note=record.change.note))

    def _get(self, key: str) -> bytes:
        return self.retry.call(lambda: self.store.get(key))


def _broken(ref: Manifest, what: str) -> AnchovyError:
    return CorruptDatastore(f"{ref.path} {what}", hint=_RESTORE, key=ref.path)


def manifest(home: Home, lane: int, epoch: int, cid: str, change: Change) -> tuple[Manifest, bytes]:
    """The object that carries a change which is too long for a record, and the reference to it."""
    data = pack(msgspec.json.encode(change, order="sorted"))
    return Manifest(path=home.manifest(lane, epoch, cid), size=len(data), sha256=hashlib.sha256(data).hexdigest()), data
