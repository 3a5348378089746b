"""Who lives in a simulated history: sessions that append integers, uploaders that load them, people who edit and reset,
maintainers.

All of it is the production code; the store, the clock and the databases are simulated, and an oracle watches every record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace

from anchovies.core.errors import CommitUnknown, Fenced, NotFound, StaleSession, StoreUnavailable
from anchovies.core.retry import Retry
from anchovies.store import cursors
from anchovies.store.cursors import Cursor, Seen
from anchovies.store.follow import Reader
from anchovies.store.lease import Busy, Lease
from anchovies.store.ledgers import NOTHING
from anchovies.store.log import NOBODY, Log
from anchovies.store.maintain import Maintainer
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, LedgerChange, Note, Record, Writer
from anchovies.store.state import State
from anchovies.testing.simulator import Rows, Scheduler, SimClock, SimDatabase, SimStore, Violation, sim_ids
from anchovies.testing.truth import HOME, Mark, Oracle

NOTE = Note(who="sim", why="again")


class World(Scheduler):
    """One history. `careless` are the rules that its processes break, for tests of the tests; `database` makes the databases."""

    def __init__(
        self, seed: int, careless: Iterable[str] = (), database: Callable[[Scheduler], SimDatabase] = SimDatabase
    ) -> None:
        super().__init__(seed)
        self.careless = frozenset(careless)
        self.store = SimStore(self)
        self.dbs = [database(self), database(self)]
        self.oracle = Oracle(self.store.objects, self.dbs)
        self.store.on_create, self.store.on_delete = self.oracle.landed, self.oracle.deleted
        self.acked: list[tuple[int, str]] = []
        self.seqs: dict[tuple[int, int, int], int] = {}
        self.splits, self.attempts = 3, 5
        self.polite = False
        #: how many workers share the log (0: one session at a time, as ever); chances of a session that goes by another number,
        #: and of one that takes splits of others
        self.workers, self.mixed, self.skewed = 0, 0.0, 0.0
        self.done: set[int] = set()

    def retry(self, clock: SimClock) -> Retry:
        return Retry(clock, sim_ids(self), attempts=self.attempts)

    def _writer(self) -> Writer:
        return Writer(host="sim", pid=1, session=sim_ids(self).nonce(), batch=1, version="0")

    def log(self, lane: int = 0, workers: int = 1) -> Log:
        clock, retry = SimClock(self), self.retry
        ids, who = sim_ids(self), self._writer()
        return Log(self.store, HOME, clock=clock, ids=ids, writer=who, lane=lane, workers=workers, retry=retry(clock))

    def reader(self) -> Reader:
        return Reader(self.store, HOME, self.retry(SimClock(self)))

    # --- sessions of the downloader ---

    def downloader(self, must: bool = False, lane: int | None = None) -> None:
        """Take the lease (where people are polite), load, batches, finish; begin again when another was first."""
        workers = self.workers or 1
        if self.workers and lane is None:
            workers = self.rng.randrange(1, 5) if self.rng.random() < self.mixed else workers
            lane = self.rng.randrange(workers)
        if not self.polite:
            return self._session(must, lambda: None, lane or 0, workers)
        clock = SimClock(self)
        lease = Lease(self.store, HOME, clock, sim_ids(self), self._writer(), self.retry(clock), lane or 0)
        if isinstance(lease.acquire("wait" if must else "skip"), Busy):
            self.stats["busy"] += 1
            return None
        try:
            self._session(must, lambda: lease.beat(), lane or 0, workers)
        finally:
            lease.release({}, quiet=False)
        return None

    def _session(self, must: bool, beat: Callable[[], object], lane: int, workers: int) -> None:
        log, joined = self.log(lane, workers), False
        for _ in range(30 if must else 3):
            state = self._loaded(log)
            if joined and state.workers not in (0, workers):
                raise Violation("a session of an old partition began again")
            if not must and self.rng.random() < 0.1:
                self.stats["quiet"] += 1
                return
            if self.workers and self.rng.random() < 0.9:  # else the first commit finds out
                state, joined = self._begun(log), True
            for _ in range(self.rng.randrange(1, 6)):
                beat()
                if not self._batch(log, state, (lane, workers), must):
                    break
                state = log.state
            else:
                log.finish()
                return
            if self.rng.random() >= 0.5:
                log, joined = self.log(lane, workers), False

    def _begun(self, log: Log) -> State:
        slot = log.state.slot
        log.begin()
        self.stats["shared out"] += log.committed
        self.stats["joined"] += log.state.slot > slot and not log.committed
        return log.state

    def _loaded(self, log: Log) -> State:
        state = log.load()
        self._true(state)
        return state

    def _true(self, state: State) -> None:
        """A loaded state is the fold of what really is in the log up to its slot."""
        if state.cid != self.oracle.cids.get(state.slot, ""):
            raise Violation(f"the state of slot {state.slot} is of another record")
        marks, ledger = self.oracle.history[state.slot]
        if {k: v.value for k, v in state.checkpoints.items()} != marks or state.ledgers.get("seen", {}) != ledger:
            raise Violation(f"the state of slot {state.slot} is not what the log says")

    def share_out_anew(self, workers: int) -> None:
        log = self.log(0, workers)
        log.load()
        log.begin()

    def _batch(self, log: Log, state: State, worker: tuple[int, int], must: bool) -> bool:
        """One batch. False: begin again from a fresh load (or this session is over: then its error goes up)."""
        splits = self._splits(worker, must)
        if not splits:
            self.done.add(worker[0])
            return True
        change, files = self._made(log, state, splits)
        try:
            record = log.append(change, frozenset(change.receipts["sim"]["marks"]))
        except StaleSession:
            self.stats["stale"] += 1
            self._drop(files)
            return False
        except CommitUnknown:
            self.stats["unknown"] += 1
            if "delete on unknown" in self.careless:
                self._drop(files)
            raise
        except Fenced:
            self._fenced(log, change)
            raise
        self.stats["commit"] += 1
        if self.workers:
            self.stats["interleaved"] += record.slot > state.slot + 1
        self.done.add(worker[0])
        self.acked.append((record.slot, record.cid))
        return True

    def _splits(self, worker: tuple[int, int], must: bool) -> list[str]:
        """Some of those that are this worker's; now and then of all, where people have not shared them out well."""
        rng, (lane, workers) = self.rng, worker
        every = [f"s{i}" for i in range(self.splits)]
        if self.workers and (must or rng.random() >= self.skewed):
            every = every[lane::workers]
        return rng.sample(every, rng.randrange(1, len(every) + 1)) if every else []

    def _beside(self, state: State, change: Change) -> Change:
        """What workers do as well: look at a checkpoint that is somebody else's, leave ledgers alone, describe their tables."""
        rng, looked = self.rng, f"s{self.rng.randrange(self.splits)}"
        marks = change.receipts["sim"]["marks"]
        if rng.random() < 0.2:
            marks.setdefault(looked, state.checkpoints[looked].value if looked in state.checkpoints else [0, 0])
        tables = {}
        if rng.random() < 0.2:
            tbl = change.files[0].table
            known = state.tables.get(tbl, {"columns": []})["columns"]
            tables = {tbl: {"columns": sorted({*known, f"c{rng.randrange(6)}"})}}
        if rng.random() < 0.5:
            change = replace(change, ledgers={}, receipts={"sim": {"marks": marks, "ledger": {}}})
        return replace(change, tables=tables)

    def _made(self, log: Log, state: State, splits: list[str]) -> tuple[Change, list[DataFile]]:
        """What a batch of this session would commit: rows that go on from the checkpoints, and entries of the ledger."""
        rng = self.rng
        base = {k: state.checkpoints[k].value if k in state.checkpoints else [0, 0] for k in splits}
        upto = {k: [g, n + rng.randrange(1, 4)] for k, (g, n) in base.items()}
        seen = {k: state.ledgers.get("seen", NOTHING).get(k) for k in {str(rng.randrange(12)) for _ in range(rng.randrange(3))}}
        for _ in range(rng.randrange(4)):
            self.here()
        files = [self._write(log, k, base[k], upto[k]) for k in splits]
        change = Change(
            files=files,
            checkpoints=Checkpoints(set={k: CheckpointValue(v) for k, v in upto.items()}),
            ledgers={"seen": LedgerChange(put={k: (v or 0) + 1 for k, v in seen.items()})} if seen else {},
            receipts={"sim": {"marks": base, "ledger": seen}},
        )
        return self._beside(state, change) if self.workers else change, files

    def _fenced(self, log: Log, change: Change) -> None:
        """A fenced session cannot come back, whatever it tries."""
        self.stats["fenced"] += 1
        for again in (lambda: log.append(change), log.load):
            try:
                again()
            except Fenced:
                continue
            raise Violation("a fenced session went on")

    def _write(self, log: Log, key: str, base: Mark, upto: Mark) -> DataFile:
        split, generation = int(key[1:]), base[0]
        rows = [(split, generation, n) for n in range(base[1] + 1, upto[1] + 1)]
        table = ("even", "odd")[split % 2]
        path, data = log.new_data_key(table, "json"), json.dumps(rows).encode()
        self.retry(SimClock(self)).call(lambda: self.store.put(path, data))
        return DataFile(table=table, path=path, size=len(data), rows=len(rows), sha256="", schema=[], cuts=[0])

    def _drop(self, files: list[DataFile]) -> None:
        """Files whose commit is definitely lost may go."""
        if self.rng.random() < 0.5 or self.careless:
            for f in files:
                with suppress(StoreUnavailable):
                    self.store.delete(f.path)

    # --- people, and maintenance ---

    def edit(self) -> None:
        """Somebody sets a checkpoint by hand: a new generation begins. Or takes entries out of the ledger."""
        log = self.log(*NOBODY)
        state = self._loaded(log)
        self.stats["edit"] += 1
        if self.rng.random() < 0.4:
            gone = [k for k in state.ledgers.get("seen", {}) if self.rng.random() < 0.5]
            log.edit(Change(ledgers={"seen": LedgerChange(delete=gone)}, note=NOTE))
        else:
            key, value = f"s{self.rng.randrange(self.splits)}", [self.rng.getrandbits(40), 0]
            log.edit(Change(checkpoints=Checkpoints(set={key: CheckpointValue(value)}), note=NOTE))
        log.finish()

    def reset(self) -> None:
        log = self.log(*NOBODY)
        self._loaded(log)
        log.reset(Change(note=NOTE))
        self.stats["reset"] += 1
        log.finish()

    def maintain(self, deep: bool | None = None) -> None:
        clock, rng = SimClock(self), self.rng
        retain, who = rng.choice([None, 0.0, 0.001]), self._writer()
        self.oracle.began[who.session] = self.now
        maintainer = Maintainer(self.store, HOME, clock, sim_ids(self), who, self.retry(clock))
        report = maintainer.run(retain, deep=rng.random() < 0.2 if deep is None else deep)
        self.stats["maintained"] += 1
        self.stats["collected"] += report.files
        self.stats["retired"] += bool(report.retired)

    def restore(self) -> None:
        """A database is backed up, and later brought back to that."""
        db = self.dbs[1]
        db.back_up()
        for _ in range(self.rng.randrange(60)):
            self.here()
        db.restore()
        self.stats["restored"] += 1

    # --- uploaders ---

    def uploader(self, number: int | None = None, rounds: int = 20) -> bool:
        """An uploader's session. True: the database is at the tail, or has met a gap that it may meet."""
        number = self.rng.randrange(2) if number is None else number
        db, reader = self.dbs[number], self.reader()
        for _ in range(rounds):
            try:
                if (done := self._round(db, number, reader)) is not None:
                    return done
            except StoreUnavailable:
                self.stats["gave up"] += 1
        return False

    def _round(self, db: SimDatabase, number: int, reader: Reader) -> bool | None:
        position = db.transaction(lambda d: d.position)
        if self.rng.random() < 0.3:
            reader.state()  # knows segments from now on
        records = list(reader.records(*position, self.rng.choice([1, 1, 3, 12])))
        if not records:
            return True
        rows: Rows = []
        for record in records:
            found = self._rows(record, db, position, reader)
            if found is None:
                return None if db.position != position else self._gap(db, position)
            rows += found
        self._apply(db, position, (records[-1].slot, records[-1].cid), rows)
        if self.rng.random() < 0.6:
            self._register(db, number, reader)
        return None

    def _gap(self, db: SimDatabase, position: tuple[int, str]) -> bool:
        """Files are gone that the database has not seen: it may happen to one that nobody knew of, or that was set back."""
        if db.position == position and not self.oracle.may_gap(db):
            raise Violation("a file that a registered database still needs is gone")
        self.stats["gap"] += 1
        return True

    def _register(self, db: SimDatabase, number: int, reader: Reader) -> None:
        """The cursor says what the database has committed; later it may have more."""
        slot, cid = db.transaction(lambda d: d.position)
        slot += 5 if "cursor leads" in self.careless else 0
        seen = [Seen(tbl, f"db{number}", slot, cid) for tbl in ("even", "odd")]
        cursors.write(self.store, HOME, Cursor(f"sim/db{number}", reader.state().store, seen))
        db.registered = self.now if db.registered is None else db.registered

    def _rows(self, record: Record, db: SimDatabase, position: tuple[int, str], reader: Reader) -> Rows | None:
        rows: Rows = []
        for f in record.change.files:
            try:
                data = self.store.get(f.path)
            except NotFound:
                if "skip what is gone" in self.careless:
                    continue
                if db.position == position and record.slot > reader.state().retired.get(f.table, 0):
                    raise Violation(f"a committed file is missing: {f.path}") from None
                return None
            rows += [((s, g, n), record.seq + len(rows) + i) for i, (s, g, n) in enumerate(json.loads(data))]
        for row, seq in rows:
            if self.seqs.setdefault(row, seq) != seq:
                raise Violation(f"_seq of row {row} is another one when it is read again")
        return rows

    def _apply(self, db: SimDatabase, position: tuple[int, str], after: tuple[int, str], rows: Rows) -> None:
        def both(d: SimDatabase) -> None:
            d.apply(position, rows, after, guarded="no position guard" not in self.careless)

        def only_rows(d: SimDatabase) -> None:
            if d.position == position:
                d.insert(rows)

        def only_position(d: SimDatabase) -> None:
            d.position = max(d.position, after)

        steps = (only_rows, only_position) if "position apart" in self.careless else (both,)
        for step in steps:
            db.transaction(step)
