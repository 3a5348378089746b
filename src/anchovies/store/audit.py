"""Looking a log over: everything that it rests on is read again and recomputed; nothing is written.

Each `Line` is one thing that holds or does not, with the invariants that it stands for. What cannot be seen from outside (how a
process came to what it wrote) is not here: tests and the simulator see to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from anchovies.core.errors import AnchovyError, ConfigError, CorruptDatastore, FatalError, NotFound, RetryableError
from anchovies.core.retry import Retry
from anchovies.core.words import count as counted
from anchovies.store import snapshot
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches, read_file
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.record import DataFile, Record
from anchovies.store.segments import key_of
from anchovies.store.segments import read as read_segment
from anchovies.store.state import DIVERGED, State, fold

_SLOT = re.compile(r"\d{10}/(\d{16})\.json")
_RESTORE = "restore that object from a backup of the datastore; nothing was guessed and nothing was changed"
_REPAIR = "`anchovy verify --repair` builds it again from the log"


class Line(msgspec.Struct):
    """One thing that was looked at. `said` in words; `broken`: what is wrong, the first of it; `hint`: the way out."""

    what: str
    rule: str
    said: str = ""
    broken: str | None = None
    hint: str | None = None

    @property
    def ok(self) -> bool:
        return self.broken is None

    def fail(self, broken: str, hint: str | None) -> None:
        """Note the first thing that is wrong."""
        if self.broken is None:
            self.broken, self.hint = broken, hint


class Audit:
    """One look over the log of one anchovy. `run()` gives the lines; `records` are those that hold, in order, afterwards."""

    def __init__(self, store: Store, home: Home, retry: Retry, *, deep: bool = False) -> None:
        self._store, self._home, self._deep = store, home, deep
        self._retry = retry
        self._history = History(store, home, retry)
        self._kept: dict[int, State] = {}  # the fold after each slot that has a snapshot
        self.state = State()
        self.records: list[Record] = []
        self.damaged: list[str] = []  # objects that can be made again from the log

    def run(self) -> list[Line]:
        """Every line, in the order in which one thing rests on another. Raises StoreUnavailable."""
        snapshots = self._call(lambda: list(snapshot.keys(self._store, self._home)))
        marker, slots, chain = Line("format", "I5"), Line("slots", "I1 I2 I7"), Line("records", "I2 I3 I12")
        if not self._marker(marker):
            return [marker]
        at = {self._slot_of(key) for key in snapshots}
        self._chain(chain, self._slots(slots, max(at, default=0)), at)
        receipts, files = Line("receipts", "source = files = rows kept"), Line("files", "I4 I10")
        self._receipts(receipts)
        self._files(files)
        kept, segments = Line("snapshots", "I6"), Line("segments", "I6")
        self._snapshots(kept, segments, snapshots)
        return [marker, slots, chain, files, receipts, kept, segments]

    # --- the log ---

    def _marker(self, line: Line) -> bool:
        try:
            uuid = self._history.uuid()
        except (ConfigError, CorruptDatastore) as e:
            line.fail(e.message, e.hint)
            return False
        if uuid is None:
            line.fail(f"{self._home.format} is missing", _RESTORE)
            return False
        self.state = State(store=uuid)
        line.said = f"log {uuid[:8]}, a format that this version knows"
        return True

    def _slot_of(self, key: str) -> int:
        """The slot whose snapshot lies in `key`: names count down, so that the newest comes first."""
        return 10**16 - 1 - int(key[len(self._home.snapshots) :].partition(".")[0])

    def _slots(self, line: Line, known: int) -> int:
        """The last slot of the unbroken part. `known`: up to there a snapshot has seen them."""
        head = self._home.slots
        there = self._call(lambda: [int(m[1]) for e in self._store.list(head) if (m := _SLOT.fullmatch(e.key[len(head) :]))])
        found, last = set(there), max([*there, known], default=0)
        missing = [n for n in range(1, last + 1) if n not in found]
        line.said = f"1 to {last:,}, none is missing" if last else "none yet"
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            seen = "a snapshot knows it" if missing[0] > max(there, default=0) else f"slot {max(there):,} is there"
            line.fail(f"{self._home.slot(missing[0])} is missing{more}, though {seen}", _RESTORE)
        return missing[0] - 1 if missing else last

    def _chain(self, line: Line, last: int, wanted: set[int]) -> None:
        """Checksum, number, store, `prev`, epoch and `seq` of each record; the fold of all, kept at `wanted`."""
        try:
            for record in self._history.records(0) if last else ():
                if record.slot > last:
                    break
                if record.store != self.state.store:
                    key = self._home.slot(record.slot)
                    raise CorruptDatastore(f"{key} is of another log ({record.store[:8]})", hint=_RESTORE)
                self.state = fold(self.state, record)
                self.records.append(record)
                if record.slot in wanted:
                    self._kept[record.slot] = self.state
        except (CorruptDatastore, FatalError) as e:
            line.fail(e.message, _RESTORE if e.hint == DIVERGED else e.hint)
        count = len(self.records)
        if line.ok and count < last:
            line.fail(f"{self._home.slot(count + 1)} cannot be read", _RESTORE)
        edits = sum(r.kind == "edit" for r in self.records)
        line.said = f"{count:,}, {edits:,} of them edits: checksums, chain, epochs and seq fit"

    # --- what it names ---

    def _files(self, line: Line) -> None:
        """Every file that somebody may still want to read, and that it is where its record's epoch says."""
        seen: set[str] = set()
        count = size = 0
        wrong: list[tuple[int, DataFile, str, str | None]] = []
        for record in self.records:
            for file in (*record.change.files, *record.change.rejects):
                if record.slot <= self.state.retired.get(file.table, 0):
                    continue
                try:
                    self._file(record, file, seen)
                except RetryableError:
                    raise  # no answer is no damage
                except AnchovyError as e:
                    wrong.append((record.slot, file, e.message, e.hint))
                count, size = count + 1, size + file.size
        now = self._retired() if wrong else {}
        wrong = [w for w in wrong if w[0] > now.get(w[1].table, 0)]  # given up while we looked
        what = "size, checksum, rows, columns and cuts" if self._deep else "size and checksum"
        line.said = f"{counted(count, 'file')}, {counted(size, 'byte')}: {what} fit"
        if wrong:
            slot, _, message, hint = wrong[0]
            more = f" ({len(wrong):,} of {count:,} files are broken)" if len(wrong) > 1 else ""
            line.fail(f"slot {slot}: {message}{more}", hint)

    def _retired(self) -> dict[str, int]:
        try:
            return self._history.load()[0].retired
        except FatalError:
            return {}

    def _file(self, record: Record, file: DataFile, seen: set[str]) -> None:
        """Raises CorruptDatastore, and what the store raises."""
        lane = f"/{record.lane}-{record.epoch:08d}/"
        roots = (self._home.data_root, self._home.rejects_root)
        if not file.path.startswith(roots) or lane not in file.path or file.path in seen:
            why = "is named twice" if file.path in seen else "does not belong to the session that names it"
            raise CorruptDatastore(f"{file.path} {why}", hint="report this, with that record")
        seen.add(file.path)
        if not self._deep or file.path.startswith(self._home.rejects_root):
            self._call(partial(read_file, self._store, file))
            return
        for batch in self._call(partial(_decoded_batches, self._store, file)):
            if batch.schema.names != [name for name, _ in file.schema]:
                raise CorruptDatastore(f"{file.path} has other columns than the log says", hint=_RESTORE)
        if file.cuts != sorted({c for c in file.cuts if 0 <= c <= file.rows}):
            raise CorruptDatastore(f"{file.path}: its cuts do not rise within its rows", hint="report this, with that record")

    def _receipts(self, line: Line) -> None:
        """Rows read = rows kept + rejected, and kept = the rows of the files; sources said no more than came."""
        tables = sources = 0
        for record in self.records:
            for tbl, said in record.change.receipts.items():
                kept = sum(f.rows for f in record.change.files if f.table == tbl)
                tables, sources = tables + 1, sources + len(said.get("sources", ()))
                if wrong := _unlike(said, kept):
                    line.fail(
                        f"slot {record.slot}, {tbl}: {wrong}",
                        "report this, with that record: rows were lost or doubled on the way",
                    )
        line.said = f"{tables:,}, and {sources:,} of single files or pages: read = kept + rejected"

    # --- what is made from it ---

    def _snapshots(self, line: Line, segments: Line, keys: list[str]) -> None:
        """Each snapshot is the fold of the log up to its slot, in the bytes that anybody would write."""
        count = 0
        for key in keys:
            try:
                data = self._call(partial(self._store.get, key))
            except NotFound:
                continue  # replaced by a newer one since it was listed
            count += 1
            try:
                wrong = self._snapshot(key, data, segments)
            except RetryableError:
                raise  # no answer is no damage
            except (AnchovyError, msgspec.MsgspecError) as e:
                wrong = str(e)
            if wrong:
                self.damaged += [key] if key not in self.damaged else []
                line.fail(wrong, _REPAIR)
        line.said = f"{count:,}, each the fold of the log up to its slot" if count else "none: the log is read from its start"
        segments.said = segments.said or "none"

    def _snapshot(self, key: str, data: bytes, segments: Line) -> str | None:
        """What is wrong with it."""
        found = snapshot.decode(data, key)
        slot = found.state.slot
        if self._home.snapshot(slot) != key:
            return f"{key} is the snapshot of slot {slot}"
        if not self._segments(segments, found):
            self.damaged.append(key)  # it names them: both are made anew
        if slot not in self._kept:
            return f"{key} cannot be compared: the log breaks before slot {slot}"
        mine = self._kept[slot]
        whole = snapshot.state_of(self._store, found, self._history.rebuild)
        if found.state != replace(mine, ledgers={}) or whole.ledgers != mine.ledgers or snapshot.encode(found) != data:
            return f"{key} is not the fold of slots 1 to {slot}"
        return None

    def _segments(self, line: Line, found: snapshot.Snapshot) -> bool:
        before = len(self.damaged)
        for segment in found.segments:
            key = key_of(self._home, segment)
            try:
                records = read_segment(self._store, self._home, segment)
                if [r.cid for r in records] != [r.cid for r in self.records[segment.start - 1 : segment.end]]:
                    raise CorruptDatastore(f"{key} does not hold what its slots hold")
            except RetryableError:
                raise
            except (AnchovyError, msgspec.MsgspecError) as e:
                line.fail(e.message if isinstance(e, AnchovyError) else str(e), _REPAIR)
                self.damaged.append(key)
        line.said = f"{counted(len(found.segments), 'copy', 'copies')} of pages of the log" if found.segments else line.said
        return len(self.damaged) == before

    def _call(self, work: Callable[[], Any]) -> Any:
        return self._retry.call(work)


def _decoded_batches(store: Store, file: DataFile) -> list[Any]:
    return list(read_batches(store, file))


def _unlike(said: dict[str, Any], kept: int) -> str | None:
    """What does not fit in a receipt of a table whose files hold `kept` rows."""
    if said.get("kept", kept) != kept:
        return f"{said['kept']:,} rows were said to be kept, its files hold {kept:,}"
    read = said.get("rows")
    if read is not None and read != kept + said.get("rejected", 0):
        return f"{read:,} rows were read, {kept:,} kept and {said.get('rejected', 0):,} rejected"
    came = sum(s.get("rows", 0) for s in said.get("sources", ()))
    if read is not None and came > read:
        return f"its sources gave {came:,} rows, {read:,} were read"
    return None


def has_log(store: Store, home: Home) -> bool:
    """Whether anything was ever committed there: the lease of runs that kept nothing is no log."""
    beside = tuple(key.removesuffix(".json") for key in (home.lease, home.lock))  # one for each worker
    return any(not e.key.startswith(beside) for e in store.list(f"{home.root}/$log/"))


def homes(store: Store, user: str) -> Iterator[Home]:
    """Every anchovy of a user that has a log, found by hopping from one to the next."""
    root = Home(user, "x").root.rpartition("/")[0] + "/"
    after = ""
    while (entry := next(iter(store.list(root, after)), None)) is not None:
        name = entry.key[len(root) :].partition("/")[0]
        after = f"{root}{name}0"  # behind everything that begins with `name/`
        try:
            home = Home(user, _decoded(name))
            if home.root == f"{root}{name}" and has_log(store, home):
                yield home
        except ConfigError:
            continue  # `$heads`, or a name that was cut: it has to be named with -i


def _decoded(name: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), name).encode("latin-1", "replace").decode("utf-8", "replace")
