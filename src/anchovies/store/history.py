"""Reading a log: every object is verified, nothing is guessed, nothing is written."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from anchovies.core.errors import AnchovyError, ConfigError, CorruptDatastore, HistoryDiverged, NotFound
from anchovies.core.retry import Retry
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.packed import pack, unpack
from anchovies.store.record import FORMAT, Change, Manifest, Record, unseal
from anchovies.store.snapshot import newest
from anchovies.store.state import DIVERGED, State, fold

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
        found = unseal(self._get(key), Record, key)
        if found.slot != slot:
            raise CorruptDatastore(f"{key} holds slot {found.slot}", hint=_RESTORE, key=key)
        return self._whole(found)

    def settle(self, slot: int) -> None:
        """Make a record that was seen durable: on local disks it is visible earlier than that."""
        self.retry.call(lambda: self.store.settle(self.home.slot(slot)))

    def load(self) -> tuple[State, int]:
        """The state at the tail, and the slot of the snapshot it was read from (0: none)."""
        uuid = self.uuid()
        if uuid is None and (uuid := self._late()) is None:
            return State(), 0
        state = self.retry.call(lambda: newest(self.store, self.home)) or State(store=uuid)
        if state.store != uuid:
            raise HistoryDiverged(f"the newest snapshot of {self.home.root} is of another log", hint=DIVERGED)
        base = state.slot
        while (record := self.after(state.slot)) is not None:
            state = fold(state, record)
        return state, base

    def after(self, slot: int) -> Record | None:
        """The record of the next slot; None at the tail."""
        try:
            return self.record(slot + 1)
        except NotFound:
            return None

    def _late(self) -> str | None:
        """No marker: then there is no first slot, or a rival has written both just now, or somebody took the marker away."""
        if self.after(0) is None:
            return None
        uuid = self.uuid()
        if uuid is None:
            raise CorruptDatastore(f"{self.home.format} is missing, but there is a log", hint=_RESTORE, key=self.home.format)
        return uuid

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


def manifest(home: Home, cid: str, change: Change) -> tuple[Manifest, bytes]:
    """The object that carries a change which is too long for a record, and the reference to it."""
    data = pack(msgspec.json.encode(change, order="sorted"))
    return Manifest(path=home.manifest(cid), size=len(data), sha256=hashlib.sha256(data).hexdigest()), data
