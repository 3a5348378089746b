"""What a log record is: frozen values, canonical bytes, a checksum of itself."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, TypeVar

import msgspec

from anchovies.core.errors import CorruptDatastore

FORMAT = 0
MAX_RECORD = 1 << 20
Kind = Literal["open", "commit", "edit", "retire", "reset"]


class Writer(msgspec.Struct, frozen=True):
    """Who wrote a record."""

    host: str
    pid: int
    session: str
    batch: int
    version: str


class DataFile(msgspec.Struct, frozen=True):
    """One data file of a commit. `path` is the whole datastore key; `size` bytes; `schema` pairs of column name and type text;
    `cuts` the row offsets at which a unit begins (without a 0 the first rows go on with the unit of the file before)."""

    table: str
    path: str
    size: int
    rows: int
    sha256: str
    schema: list[tuple[str, str]]
    cuts: list[int]


class CheckpointValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checkpoint value as plain JSON (`core/values.py` made it) and the tables it fed, sorted."""

    value: Any
    tbls: list[str] = []


class Checkpoints(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes of checkpoint values by key. `set`: for the tables of the value; without tables for all. `delete`: for all.
    `behind`: older values of other tables, put behind the one that `set` sets. `forget`: the tables that have none any more."""

    set: dict[str, CheckpointValue] = {}
    delete: list[str] = []
    behind: dict[str, list[CheckpointValue]] = {}
    forget: dict[str, list[str]] = {}


class LedgerChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """Entries of a ledger (a large set, one a table) that are put or removed."""

    put: dict[str, Any] = {}
    delete: list[str] = []


class Loaded(msgspec.Struct, frozen=True):
    """What an uploader says it has loaded: `source` is `user/id`; slots in (`start`, `end`]; `cid` that of `end`."""

    source: str
    store: str
    tbl: str
    target: str
    start: int
    end: int
    cid: str
    counts: dict[str, int] = {}


class Note(msgspec.Struct, frozen=True):
    who: str
    why: str


class Manifest(msgspec.Struct, frozen=True):
    """Where the `files` of a record lie that would have made it longer than 1 MiB."""

    path: str
    size: int
    sha256: str


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one commit changes, atomically. The log adds the rest of the record. Empty: nothing would be written.

    `retire` (table name to slot): the data files of these slots and of all before them are given up.
    """

    files: list[DataFile] = []
    complete: list[str] = []
    checkpoints: Checkpoints = Checkpoints()
    ledgers: dict[str, LedgerChange] = {}
    tables: dict[str, dict[str, Any]] = {}
    rejects: list[DataFile] = []
    receipts: dict[str, dict[str, Any]] = {}
    loaded: list[Loaded] = []
    note: Note | None = None
    ack_pending: list[str] = []
    retire: dict[str, int] = {}

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One slot of the log. `_seq` of a row = `seq` + its index over all `files`, in their order."""

    v: int
    store: str
    slot: int
    epoch: int
    lane: int
    workers: int
    seq: int
    kind: Kind
    cid: str
    prev: str
    writer: Writer
    at: str
    rows: int
    change: Change
    manifest: Manifest | None = None


S = TypeVar("S", bound=msgspec.Struct)
_DAMAGED = "restore that object from a backup of the datastore; nothing was guessed and nothing was changed"
_TAIL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}$')


def seal(value: msgspec.Struct) -> bytes:
    """Canonical JSON of `value` whose last member is the SHA-256 of all bytes before it."""
    body = msgspec.json.encode(value, order="sorted")[:-1]
    return body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


def unseal(data: bytes, kind: type[S], key: str) -> S:
    """The value that `seal` wrote. Raises CorruptDatastore naming `key` when a single bit differs."""
    tail = _TAIL.search(data)
    if tail is None or hashlib.sha256(data[: tail.start()]).hexdigest().encode() != tail[1]:
        raise CorruptDatastore(f"{key} is damaged: its checksum does not match ({len(data)} bytes)", hint=_DAMAGED, key=key)
    try:
        return msgspec.json.decode(data[: tail.start()] + b"}", type=kind)
    except msgspec.MsgspecError as e:
        raise CorruptDatastore(f"{key} is not a {kind.__name__} of this version: {e}", hint=_DAMAGED, key=key) from None
