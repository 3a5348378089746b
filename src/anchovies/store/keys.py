"""The one owner of datastore keys: every name that lies in a datastore is made here."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import msgspec

from anchovies.core.names import check_name

PAGE = 1024
#: remembers that a datastore which a plugin brought stood its trial; beside every home, so no name of a user can be in its way
PASSED = "$heads/.probe"
_BEGINS = "/$log/_format.json"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_KEEP = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_.-")
_MAX = 200


def page_of(slot: int) -> int:
    """The page of the log that a slot lies on. Page 0 begins with slot 1."""
    return slot // PAGE


def slots_of(page: int) -> range:
    """The slots of a page."""
    return range(max(1, page * PAGE), (page + 1) * PAGE)


def begins_a_log(key: str) -> bool:
    """Whether it is the first object of a log."""
    return key.endswith(_BEGINS)


#: where the task logs of all anchovies lie together (`HiveTaskStore`); beside every home, as no user can be called so
HIVE = "$task_logs/"


def hive_task_logs(user: str, id: str | None = None) -> str:
    """What the keys of a user's (or an anchovy's) task logs begin with in the common place."""
    mine = f"{HIVE}anchovy_user={encode(user, 'user')}/"
    return mine if id is None else f"{mine}anchovy_id={encode(id, 'id')}/"


def hive_task_log(user: str, id: str, batch: int, at: str, nonce: str) -> str:
    """`at`: ISO 8601, the end of the last task in it."""
    return f"{hive_task_logs(user, id)}{batch}.{re.sub('[-:]', '', at)}.{nonce}.json"


def trial(nonce: str) -> str:
    """What is written, and written again, to try a datastore out."""
    return f"{PASSED}-{nonce}"


@lru_cache(maxsize=1024)
def encode(name: str, what: str = "name") -> str:
    """`name` as one component of a key: plain names as they are, others %-encoded, over 200 bytes cut with a hash."""
    return _quote(check_name(name, what))


def _quote(name: str) -> str:
    if _PLAIN.fullmatch(name) and len(name) <= _MAX:
        return name
    raw = name.encode("utf-8", "surrogatepass")
    out = "".join(chr(b) if b in _KEEP and (i or b not in b"_.-") else f"%{b:02X}" for i, b in enumerate(raw))
    if len(out) > _MAX:
        cut = re.sub(r"%[0-9A-F]?$", "", out[: _MAX - 17])
        out = f"{cut}~{hashlib.sha256(raw).hexdigest()[:16]}"
    return out


class Home(msgspec.Struct, frozen=True):
    """The keys of one anchovy: `<user>/<id>/…`. Raises ConfigError for names that are no names."""

    user: str
    id: str

    @property
    def root(self) -> str:
        return f"{encode(self.user, 'user')}/{encode(self.id, 'id')}"

    @property
    def format(self) -> str:
        return f"{self.root}{_BEGINS}"

    @property
    def lease(self) -> str:
        return self.lease_of(0)

    @property
    def lock(self) -> str:
        return self.lock_of(0)

    def lease_of(self, lane: int) -> str:
        """One a lane: a worker is polite to whoever would be the same worker."""
        return f"{self.root}/$log/lease{f'-{lane}' if lane else ''}.json"

    def lock_of(self, lane: int) -> str:
        return f"{self.root}/$log/lock{f'-{lane}' if lane else ''}"

    @property
    def snapshots(self) -> str:
        return f"{self.root}/$log/snap/"

    @property
    def head(self) -> str:
        return f"{encode(self.user, 'user')}/$heads/{encode(self.id, 'id')}"

    @property
    def slots(self) -> str:
        return f"{self.root}/$log/log/"

    def slot(self, slot: int) -> str:
        return f"{self.slots}{page_of(slot):010d}/{slot:016d}.json"

    def snapshot(self, slot: int) -> str:
        """Inverted, so that the newest snapshot is the first key of a listing."""
        return f"{self.snapshots}{10**16 - 1 - slot:016d}.json.gz"

    @property
    def manifests(self) -> str:
        return f"{self.root}/$log/man/"

    def manifest(self, lane: int, epoch: int, cid: str) -> str:
        """Lane and epoch stand in the name, so that collection knows whether its record can still land (an edit's: lane -1)."""
        return f"{self.manifests}{lane}-{epoch:08d}/{cid}.json.gz"

    @property
    def segments(self) -> str:
        return f"{self.root}/$log/seg/"

    def segment(self, start: int, end: int, sha256: str) -> str:
        return f"{self.segments}{start:016d}-{end:016d}-{sha256[:32]}.jsonl.gz"

    @property
    def shards(self) -> str:
        return f"{self.segments}ledger-"

    def shard(self, slot: int, sha256: str) -> str:
        """A part of a ledger, named after the snapshot that wrote it first and after its content."""
        return f"{self.shards}{slot:016d}-{sha256[:32]}.json.gz"

    @property
    def cursors(self) -> str:
        return f"{self.root}/$log/cursors/"

    def cursor(self, consumer: str) -> str:
        """What the uploader `consumer` (`user/id`) says it has loaded."""
        return f"{self.cursors}{_quote(consumer)}.json"

    @property
    def collected(self) -> str:
        return f"{self.root}/$log/collected.json"

    def probe(self, nonce: str) -> str:
        return f"{self.root}/$log/probe/{nonce}"

    @property
    def data_root(self) -> str:
        return f"{self.root}/data/"

    @property
    def rejects_root(self) -> str:
        return f"{self.root}/$results/rejects/"

    def data_lane(self, tbl: str, lane: int, epoch: int) -> str:
        return f"{self.data_root}{encode(tbl, 'table')}/{lane}-{epoch:08d}/"

    def data(self, tbl: str, lane: int, epoch: int, nonce: str, ext: str) -> str:
        return f"{self.data_lane(tbl, lane, epoch)}{nonce}.{ext}"

    def rejects(self, tbl: str, lane: int, epoch: int, nonce: str) -> str:
        return f"{self.rejects_root}{encode(tbl, 'table')}/{lane}-{epoch:08d}/{nonce}.jsonl.gz"

    def checkpoint(self, key: str) -> str:
        """Checkpoint keys are free text (paths, say): what a name refuses is encoded here."""
        return f"{self.root}/$checkpoints/{_quote(key) or '%'}.json"

    def table(self, tbl: str) -> str:
        return f"{self.root}/$tables/{encode(tbl, 'table')}.json"

    @property
    def task_logs(self) -> str:
        return f"{self.root}/$task_logs/"

    def task_log(self, session: str, batch: int) -> str:
        return f"{self.task_logs}{session}-{batch:06d}.jsonl"

    def result(self, session: str) -> str:
        return f"{self.root}/$results/{session}_results.json"
