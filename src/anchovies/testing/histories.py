"""Seeded histories of the log: sessions append integers, readers load them, people edit, and an oracle watches every slot."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import suppress

from anchovies.core.errors import CommitUnknown, FatalError, Fenced, NotFound, StaleSession, StoreUnavailable
from anchovies.core.retry import Retry
from anchovies.store.follow import Reader
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, CheckpointValue, DataFile, Note, Record, Writer, unseal
from anchovies.store.state import State, fold
from anchovies.testing.simulator import Scheduler, SimClock, SimDatabase, SimStore, Violation, sim_ids

HOME = Home("sim", "numbers")
_LOG = HOME.slot(1).rpartition("/")[0].rpartition("/")[0] + "/"
Mark = list[int]
"""A checkpoint of a split: [generation, number]. An edit begins a new generation at 0."""


class Oracle:
    """What is true: it sees each record the moment it lands, and knows what no session can know."""

    def __init__(self) -> None:
        self.slot, self.cid, self.seq = 0, "", 0
        self.epoch, self.owner = 0, ""
        self.marks: dict[str, Mark] = {}
        self.cids: dict[int, str] = {}
        self.history: dict[int, dict[str, Mark]] = {0: {}}
        self.data: dict[str, bytes] = {}

    def landed(self, key: str, data: bytes, store: SimStore) -> None:
        if not key.startswith(_LOG):
            return
        record = unseal(data, Record, key)
        if record.slot != self.slot + 1 or HOME.slot(record.slot) != key or record.prev != self.cid:
            raise Violation(f"slot {record.slot} is not a continuation of slot {self.slot}")
        if record.seq < self.seq:
            raise Violation(f"seq went back in slot {record.slot}: {record.seq} after {self.seq}")
        self.slot, self.cid, self.seq = record.slot, record.cid, record.seq + record.rows
        self.cids[record.slot] = record.cid
        if record.kind != "edit":
            self._session(record)
            self._checkpoints(record, store)
        self.marks.update({k: v.value for k, v in record.change.checkpoints.set.items()})
        self.history[record.slot] = {k: list(v) for k, v in self.marks.items()}

    def _session(self, record: Record) -> None:
        session = record.writer.session
        if record.kind == "open":
            if record.epoch <= self.epoch:
                raise Violation(f"the epoch did not rise in slot {record.slot}")
            self.epoch, self.owner = record.epoch, session
        elif (record.epoch, session) != (self.epoch, self.owner):
            raise Violation(f"slot {record.slot} was written by session {session} after {self.owner} had opened")

    def _checkpoints(self, record: Record, store: SimStore) -> None:
        for key, base in record.change.receipts["sim"]["base"].items():
            if base != self.marks.get(key, [0, 0]):
                raise Violation(f"{key}: the batch began at {base} and met {self.marks.get(key)}: rows lost or twice")
        for f in record.change.files:
            if f.path not in store.objects:
                raise Violation(f"slot {record.slot} names a file that is gone: {f.path}")
            self.data[f.path] = store.objects[f.path]


class World(Scheduler):
    """One history. `careless` are the rules that its processes break, for tests of the tests."""

    def __init__(self, seed: int, careless: Iterable[str] = ()) -> None:
        super().__init__(seed)
        self.careless = frozenset(careless)
        self.oracle = Oracle()
        self.store = SimStore(self, lambda key, data: self.oracle.landed(key, data, self.store))
        self.db = SimDatabase(self)
        self.acked: list[tuple[int, str]] = []
        self.seqs: dict[tuple[int, int, int], int] = {}
        self.splits = 3
        self.attempts = 5

    def retry(self, clock: SimClock) -> Retry:
        return Retry(clock, sim_ids(self), attempts=self.attempts)

    def log(self) -> Log:
        clock, ids = SimClock(self), sim_ids(self)
        writer = Writer(host="sim", pid=1, session=ids.nonce(), batch=1, version="0")
        return Log(self.store, HOME, clock=clock, ids=ids, writer=writer, retry=self.retry(clock))

    def reader(self) -> Reader:
        return Reader(self.store, HOME, self.retry(SimClock(self)))

    # --- what the processes do ---

    def session(self, must: bool = False) -> None:
        """A downloader's session: load, batches, finish; begins again when another was first."""
        log = self.log()
        for _ in range(30 if must else 3):
            state = self._loaded(log)
            if not must and self.rng.random() < 0.1:
                self.stats["quiet"] += 1
                return
            for _ in range(self.rng.randrange(1, 6)):
                if not self._batch(log, state):
                    break
                state = log.state
            else:
                log.finish()
                return
            log = log if self.rng.random() < 0.5 else self.log()

    def _loaded(self, log: Log) -> State:
        state = log.load()
        self._true(state)
        return state

    def _true(self, state: State) -> None:
        """A loaded state is the fold of what really is in the log up to its slot."""
        marks = {k: v.value for k, v in state.checkpoints.items()}
        if state.cid != self.oracle.cids.get(state.slot, "") or marks != self.oracle.history[state.slot]:
            raise Violation(f"the state of slot {state.slot} is not what the log says")

    def _batch(self, log: Log, state: State) -> bool:
        """One batch. False: begin again from a fresh load (or this session is over: then its error goes up)."""
        rng = self.rng
        keys = rng.sample([f"s{i}" for i in range(self.splits)], rng.randrange(1, self.splits + 1))
        base = {k: state.checkpoints[k].value if k in state.checkpoints else [0, 0] for k in keys}
        upto = {k: [g, n + rng.randrange(1, 4)] for k, (g, n) in base.items()}
        for _ in range(rng.randrange(4)):
            self.here()
        files = [self._write(log, k, base[k], upto[k]) for k in keys]
        change = Change(
            files=files,
            checkpoints=Checkpoints(set={k: CheckpointValue(v) for k, v in upto.items()}),
            receipts={"sim": {"base": base}},
        )
        try:
            record = log.append(change)
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
        self.acked.append((record.slot, record.cid))
        return True

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
        path, data = log.new_data_key("numbers", "json"), json.dumps(rows).encode()
        self.retry(SimClock(self)).call(lambda: self.store.put(path, data))
        return DataFile(table="numbers", path=path, size=len(data), rows=len(rows), sha256="", schema=[], cuts=[0])

    def _drop(self, files: list[DataFile]) -> None:
        """Files whose commit is definitely lost may go."""
        if self.rng.random() < 0.5 or self.careless:
            for f in files:
                with suppress(StoreUnavailable):
                    self.store.delete(f.path)

    def edit(self) -> None:
        """Somebody sets a checkpoint by hand: a new generation begins."""
        log = self.log()
        self._loaded(log)
        self.stats["edit"] += 1
        key, value = f"s{self.rng.randrange(self.splits)}", [self.rng.getrandbits(40), 0]
        log.edit(Change(checkpoints=Checkpoints(set={key: CheckpointValue(value)}), note=Note(who="sim", why="again")))
        log.finish()

    def load_rows(self, rounds: int = 20) -> None:
        """An uploader's session: record by record, rows and position in one transaction."""
        reader = self.reader()
        for _ in range(rounds):
            try:
                position = self.db.transaction(lambda db: db.position)
                record = reader.next(*position)
                if record is None:
                    return
                rows = self._rows(record, position)
                if rows is not None:
                    self._apply(position, record, rows)
            except StoreUnavailable:
                self.stats["gave up"] += 1

    def _rows(self, record: Record, position: tuple[int, str]) -> list[tuple[tuple[int, int, int], int]] | None:
        rows: list[tuple[tuple[int, int, int], int]] = []
        for f in record.change.files:
            try:
                data = self.store.get(f.path)
            except NotFound:
                if self.db.position == position:
                    raise Violation(f"a committed file is missing: {f.path}") from None
                return None
            rows += [((s, g, n), record.seq + len(rows) + i) for i, (s, g, n) in enumerate(json.loads(data))]
        for row, seq in rows:
            if self.seqs.setdefault(row, seq) != seq:
                raise Violation(f"_seq of row {row} is another one when it is read again")
        return rows

    def _apply(self, position: tuple[int, str], record: Record, rows: list[tuple[tuple[int, int, int], int]]) -> None:
        after = (record.slot, record.cid)

        def both(db: SimDatabase) -> None:
            if db.position == position or "no position guard" in self.careless:
                db.insert(rows)
                db.position = after

        def only_rows(db: SimDatabase) -> None:
            if db.position == position:
                db.insert(rows)

        def only_position(db: SimDatabase) -> None:
            db.position = max(db.position, after)

        steps = (only_rows, only_position) if "position apart" in self.careless else (both,)
        for step in steps:
            self.db.transaction(step)


def simulate(seed: int, steps: int = 800, careless: Iterable[str] = ()) -> World:
    """One history from `seed`, healed at its end. Raises Violation; the same seed gives the same history."""
    world = World(seed, careless)
    cfg = random.Random(seed * 7919 + 1)  # noqa: S311
    world.p = cfg.choice([0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
    world.jump = cfg.choice([0.0, 0.05, 0.5])
    world.splits = cfg.randrange(1, 4)
    world.attempts = cfg.choice([1, 2, 3, 5])
    procs, pause, kill = cfg.randrange(1, 8), cfg.choice([0.0, 0.002, 0.01]), cfg.choice([0.0, 0.002, 0.01])
    land, edits = cfg.choice([0.002, 0.02, 0.2]), cfg.choice([0, 0, 1, 2])
    kinds = [world.session] * 4 + [world.load_rows] * 3 + [world.edit] * edits
    rng = world.rng
    for _ in range(steps):
        while len(world.live) < procs:
            body = rng.choice(kinds)
            world.spawn(body.__name__, body)
        if rng.random() < land:
            world.store.land()
        process = rng.choice(world.live)
        if process.paused > 0:
            process.paused -= 1
            world.now += 1
        elif rng.random() < kill:
            world.kill(process)
        else:
            if rng.random() < pause:
                process.paused = rng.randrange(20, 200)
            world.turn(process)
    _heal(world)
    return world


def _heal(world: World) -> None:
    """All processes die, what was in flight lands, nothing fails any more: everything must come together."""
    for process in list(world.live):
        world.kill(process)
    while world.store.flying:
        world.store.land()
    world.p = 0.0
    before = world.oracle.slot
    world.spawn("session", lambda: world.session(must=True))
    world.drain()
    if world.oracle.slot == before:
        raise Violation("no progress: a session alone could not commit")
    while world.db.position[0] < world.oracle.slot:
        world.spawn("reader", world.load_rows)
        world.drain()
    _verdict(world)


def _verdict(world: World) -> None:
    oracle = world.oracle
    for slot, cid in world.acked:
        if oracle.cids.get(slot) != cid:
            raise Violation(f"commit {cid} was acknowledged, and slot {slot} holds another")
    if world.db.position != (oracle.slot, oracle.cid):
        raise Violation("the database did not catch up")
    for key, (generation, number) in oracle.marks.items():
        if world.db.top[int(key[1:]), generation] != number:
            raise Violation(f"{key}: checkpoint {number}, rows up to {world.db.top[int(key[1:]), generation]}")
    try:
        history = History(world.store, HOME, world.retry(SimClock(world)))
        state, whole = history.load()[0], State(store=history.uuid() or "")
        for slot in range(1, oracle.slot + 1):
            whole = fold(whole, history.record(slot))
    except FatalError as e:
        raise Violation(f"the log can not be read: {e}") from e
    if state != whole:
        raise Violation("the newest snapshot is not the fold of the log")
    world.note("end", state)
